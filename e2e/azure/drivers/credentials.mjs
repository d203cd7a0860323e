// Credentials of @azure/identity, each made the way that its documentation makes it. What they need stands in the environment.

import * as identity from "@azure/identity";

export function make(name) {
  const env = process.env;
  switch (name) {
    case "client-secret-adfs":
      return new identity.ClientSecretCredential("adfs", env.AZURE_CLIENT_ID, env.AZURE_CLIENT_SECRET);
    case "client-secret-tenant":
      return new identity.ClientSecretCredential(env.TENANT, env.AZURE_CLIENT_ID, env.AZURE_CLIENT_SECRET, {
        authorityHost: env.AZURE_AUTHORITY_HOST,
        disableInstanceDiscovery: true,
      });
    case "client-secret-discovering":
      return new identity.ClientSecretCredential(env.TENANT, env.AZURE_CLIENT_ID, env.AZURE_CLIENT_SECRET);
    case "device-code":
      return new identity.DeviceCodeCredential({
        clientId: env.DEVICE_CLIENT_ID,
        tenantId: env.DEVICE_TENANT,
        authorityHost: env.AZURE_AUTHORITY_HOST,
        disableInstanceDiscovery: true,
        userPromptCallback: ({ verificationUri, userCode }) =>
          console.log(JSON.stringify({ prompt: { uri: verificationUri, code: userCode } })),
      });
    case "environment":
      return new identity.EnvironmentCredential();
    case "workload-identity":
      return new identity.WorkloadIdentityCredential();
    case "managed-identity":
      return new identity.ManagedIdentityCredential();
    case "default":
      return new identity.DefaultAzureCredential();
  }
  throw new Error("no such credential");
}
