"""Credentials of azure-identity, each made the way that its documentation makes it. What they need stands in the environment."""

import json
import os


def make(name, identity):
    """`identity` is azure.identity or azure.identity.aio."""
    env = os.environ
    if name == "client-secret-adfs":
        return identity.ClientSecretCredential("adfs", env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"])
    if name == "client-secret-tenant":
        return identity.ClientSecretCredential(
            env["TENANT"],
            env["AZURE_CLIENT_ID"],
            env["AZURE_CLIENT_SECRET"],
            authority=env["AZURE_AUTHORITY_HOST"],
            disable_instance_discovery=True,
        )
    if name == "client-secret-discovering":
        return identity.ClientSecretCredential(env["TENANT"], env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"])
    if name == "device-code":
        return identity.DeviceCodeCredential(
            client_id=env["DEVICE_CLIENT_ID"],
            tenant_id=env["DEVICE_TENANT"],
            authority=env["AZURE_AUTHORITY_HOST"],
            disable_instance_discovery=True,
            prompt_callback=lambda uri, code, _: print(json.dumps({"prompt": {"uri": uri, "code": code}}), flush=True),
            timeout=60,
        )
    return {
        "environment": identity.EnvironmentCredential,
        "workload-identity": identity.WorkloadIdentityCredential,
        "managed-identity": identity.ManagedIdentityCredential,
        "default": identity.DefaultAzureCredential,
    }[name]()
