"""The content types that Azure ML knows for a secret. For Kluis they are text."""

from enum import Enum


class KeyVaultContentType(str, Enum):
    """What a secret holds. A hint for readers, nothing more."""

    not_provided = "application/NotProvided"
    storage_account_access_key = "application/vnd.ms-StorageAccountAccessKey"
    storage_account_server_side_encryption_key = "application/vnd.ms-StorageAccountServerSideEncryptionKey"
    storage_sas_token = "application/vnd.ms-StorageSAStoken"
    storage_connection_string = "application/vnd.ms-StorageConnectionString"
    client_side_encryption_key = "application/vnd.ms-ClientSideEncryptionKey"
    password = "application/vnd.ms-password"
    servicebus_sas_token = "application/vnd.ms-ServiceBusSAStoken"
    servicebus_connection_string = "application/vnd.ms-ServiceBusConnectionString"
    sql_connection_string = "application/vnd.ms-SQLConnectionString"
    pem_file = "application/x-pem-file"
    pkcs12 = "application/x-pkcs12"
