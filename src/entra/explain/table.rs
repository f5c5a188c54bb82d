//! The table. A line is all that a new number or message needs.

use super::Class::{
    Configuration, Dead, DeadForResource, DeviceCode, Interaction, Other, Permission, Transient, Unavailable,
};
use super::{Class, Explanation, Sign};

const ADMIN: &str = "ask an administrator of the tenant";
const ASSERTION: &str =
    "check the assertion's audience, issuer, times and signature against the app's credentials";
const CLIENT: &str = "check --client-id and --tenant against the app's registration";
const CODE: &str = "start a new sign-in: tokenkeep login --device-code";
const CONSENT: &str = "sign in and consent, or ask an administrator to: tokenkeep login";
const DEVICE: &str = "sign in from a device that the organisation manages, or ask an administrator";
const LATER: &str = "try again in a few minutes";
const LOGIN: &str = "sign in again: tokenkeep login";
const REPORT: &str = "check the scope and claims that were asked for";
const RESOURCE: &str = "check --scope: the resource has to exist in this tenant";
const SCOPE: &str = "check --scope";
const SECRET: &str = "give the app a new secret or certificate and use that";
const TENANT: &str = "check --tenant: it has to be an existing tenant's id or domain";

const fn row(code: u32, class: Class, meaning: &'static str, next_step: &'static str) -> Explanation {
    Explanation { sign: Sign::Number(code), class, meaning, next_step }
}

/// A message is known by any of the phrases, in small letters and without an apostrophe in it.
const fn said(
    name: &'static str,
    phrases: &'static [&'static str],
    class: Class,
    meaning: &'static str,
    next_step: &'static str,
) -> Explanation {
    Explanation { sign: Sign::Message { name, phrases }, class, meaning, next_step }
}

/// Numbers in their order, then the messages of credentials in the order of the guides.
#[rustfmt::skip] // one number, one line
pub(super) static TABLE: &[Explanation] = &[
    row(16000, Interaction, "several accounts are signed in, and one has to be chosen", LOGIN),
    row(28002, Configuration, "a scope is not valid for this resource", SCOPE),
    row(28003, Configuration, "the scope is empty", SCOPE),
    row(50001, Configuration, "the resource does not exist in this tenant", RESOURCE),
    row(50011, Configuration, "the redirect URI is not one of the app's", "register http://localhost as a redirect URI of the app, for mobile and desktop applications; for a broker ms-appx-web://Microsoft.AAD.BrokerPlugin/CLIENT_ID"),
    row(50012, Configuration, "the assertion's signature could not be verified", ASSERTION),
    row(50013, Configuration, "the assertion is not valid", ASSERTION),
    row(50020, Dead, "the account is not a member or guest of this tenant", "sign in with an account of this tenant, or have yours invited: tokenkeep login --tenant TENANT"),
    row(50027, Configuration, "the assertion is not a well-formed JWT", "make it of three base64url parts, with the header, the claims and the signature that the app's credentials ask for"),
    row(50033, Transient, "the provider had a passing failure", LATER),
    row(50034, Dead, "the account does not exist in this tenant any more", "remove it: tokenkeep logout --account USERNAME; then sign in with another"),
    row(50049, Configuration, "the tenant or its instance is unknown", TENANT),
    row(50053, Configuration, "the account is locked after too many attempts, or the address is blocked", "wait, or ask an administrator to unlock the account"),
    row(50055, Interaction, "the password has expired", "sign in and choose a new password: tokenkeep login"),
    row(50057, Dead, "the account is disabled", "ask an administrator to enable the account; signing in fails until then"),
    row(50058, Interaction, "nobody is signed in who could be used silently", LOGIN),
    row(50059, Configuration, "the request names no tenant", TENANT),
    row(50072, Interaction, "the account has to enrol for a second factor", "sign in and enrol: tokenkeep login"),
    row(50074, Interaction, "a second factor is required", LOGIN),
    row(50076, Interaction, "a second factor is required by policy or because of a new place", LOGIN),
    row(50078, Interaction, "the second factor has expired", LOGIN),
    row(50079, Interaction, "the account has to enrol for a second factor", "sign in and enrol: tokenkeep login"),
    row(50085, Dead, "the token needs a sign-in with its social identity provider", LOGIN),
    row(50087, Transient, "the provider had a passing failure", LATER),
    row(50088, Transient, "the provider's calls and messages for second factors are limited just now", LATER),
    row(50089, Dead, "what the sign-in left behind has expired", LOGIN),
    row(50097, Interaction, "the device has to authenticate itself", DEVICE),
    row(50105, Interaction, "the account is not assigned to a role of the app", "ask an administrator to assign the account to the app"),
    row(50126, Configuration, "the user name or the password is wrong", "check both; or sign in with a browser, which also does a second factor: tokenkeep login"),
    row(50128, Configuration, "the domain belongs to no tenant", TENANT),
    row(50131, Interaction, "policy blocked the request: device, place or risk", DEVICE),
    row(50132, Dead, "the session ended with a password change or expired", LOGIN),
    row(50133, Dead, "the session ended with a password change or expired", LOGIN),
    row(50144, Interaction, "the password in the organisation's directory has expired", "sign in and choose a new password: tokenkeep login"),
    row(50155, Interaction, "the device could not be authenticated for this account", DEVICE),
    row(50158, Interaction, "an external provider asks for a second factor", LOGIN),
    row(50173, Dead, "a fresh sign-in is needed: the password was changed or the sessions were revoked", LOGIN),
    row(50194, Configuration, "the app is for one tenant only", "name the app's own tenant: --tenant TENANT"),
    row(50196, Transient, "the provider saw the same request in a loop", "stop whatever repeats the request, and wait a minute"),
    row(53000, Interaction, "the device does not comply with the organisation's rules", DEVICE),
    row(53001, Interaction, "the device is not joined to the organisation", DEVICE),
    row(53002, Interaction, "the app is not one that the organisation approved", ADMIN),
    row(53003, Interaction, "a Conditional Access policy blocks the request", ADMIN),
    row(53004, Interaction, "the account has to complete its registration for second factors", "sign in and register: tokenkeep login"),
    row(54005, Other, "the authorization code was already used", "start a new sign-in: tokenkeep login"),
    row(65001, Interaction, "the app has no consent for what it asks", CONSENT),
    row(65002, Configuration, "the app is not preauthorised by the resource", "ask the resource's owner to preauthorise the app, or use another --client-id"),
    row(65004, Interaction, "consent was declined", CONSENT),
    row(65005, Configuration, "the app did not list the resource among its permissions", "add the resource to the app's required permissions"),
    row(70000, Dead, "the token is malformed, revoked, or another client's", LOGIN),
    row(70001, Configuration, "the app is not known in this tenant", CLIENT),
    row(70002, Configuration, "the app's credentials could not be verified", CLIENT),
    row(70003, Configuration, "the app used a kind of grant that is not supported", CLIENT),
    row(70008, Dead, "the token or code has expired by inactivity, or was revoked", LOGIN),
    row(70011, Configuration, "the scope is not valid", SCOPE),
    row(70016, DeviceCode, "nobody has entered the code yet", "enter the code on the page that was shown"),
    row(70018, DeviceCode, "the code is not valid", CODE),
    row(70019, DeviceCode, "the code has expired", CODE),
    row(70043, DeadForResource, "the sign-in is older than policy allows for this resource", LOGIN),
    row(70044, DeadForResource, "the session is older than policy allows for this resource", LOGIN),
    row(80002, Transient, "the organisation's own sign-in agent did not answer in time", LATER),
    row(80005, Transient, "the organisation's own sign-in agent gave an unexpected answer", LATER),
    row(90002, Configuration, "the tenant was not found", TENANT),
    row(90006, Transient, "the provider had a passing failure", LATER),
    row(90012, Transient, "the request took too long", LATER),
    row(90023, Configuration, "the request is not valid", REPORT),
    row(90024, Transient, "the provider was busy", LATER),
    row(90033, Transient, "the provider had a passing failure", LATER),
    row(90055, Transient, "the tenant gets too many requests just now", LATER),
    row(90090, Transient, "the provider could not check the permissions just now", LATER),
    row(90094, Interaction, "an administrator has to consent", "ask an administrator of the tenant to consent to the app"),
    row(90120, DeviceCode, "the code was already used", CODE),
    row(500011, Configuration, "the resource does not exist in this tenant", RESOURCE),
    row(500133, Configuration, "the assertion is outside its validity", "check this machine's clock, and get a new assertion"),
    row(500208, Configuration, "the domain cannot sign in to this kind of account", "use an account of the kind that the app is for"),
    row(530032, Interaction, "a risk policy of the tenant blocks the request", ADMIN),
    row(530035, Interaction, "the tenant's security defaults block the request", ADMIN),
    row(650057, Configuration, "the resource is not among the app's permissions", "add the resource to the app's required permissions"),
    row(700016, Configuration, "the app was not found in this tenant", "check --client-id and --tenant against the app's registration; a multi-tenant app has to be added to the tenant by its administrator"),
    row(700020, Interaction, "a person has to be asked", LOGIN),
    row(700021, Configuration, "the assertion does not name this app", "set both sub and iss of the assertion to the app's client id"),
    row(700023, Configuration, "the assertion's audience is wrong", "set aud of the assertion to the tenant's own issuer or token endpoint: https://login.microsoftonline.com/TENANT/v2.0"),
    row(700024, Configuration, "the assertion is outside its validity", "check this machine's clock, and get a new assertion"),
    row(700025, Configuration, "the app is public, so it may not send a secret", "leave the secret out, or use a confidential app"),
    row(700027, Configuration, "the assertion's signature or certificate is not the app's", "upload the certificate to the app's registration, or sign with the one that is there"),
    row(700082, Dead, "the token has expired by inactivity", LOGIN),
    row(700084, Dead, "the token was a single-page app's, which lives for 24 hours", LOGIN),
    row(900023, Configuration, "the tenant is neither an id nor a domain", "check --tenant: it is the id or domain of the tenant in which the app, or its managed identity, is registered"),
    row(900144, Configuration, "the request lacks a parameter", REPORT),
    row(7000112, Configuration, "the app is disabled", "ask an administrator to enable the app, or use another --client-id"),
    row(7000215, Configuration, "the app's secret is wrong", "use the secret's value, not its id; if it is lost, give the app a new one"),
    row(7000218, Configuration, "the app has to prove itself by a secret or assertion", "allow public client flows in the app's registration"),
    row(7000222, Configuration, "the app's secret has expired", SECRET),
    row(9001023, Configuration, "this kind of grant does not work with this endpoint", "name a tenant: --tenant TENANT"),
    row(9002313, Other, "the request or what it carried was malformed", LOGIN),
    said("CredentialUnavailableError", &["credentialunavailable"], Unavailable, "this credential has nothing to try with here; a chain goes on to its next one", "read the text behind the name of the credential: it says what is missing"),
    said("every credential of the chain failed", &["failed to retrieve a token from the included credentials"], Unavailable, "no credential of the chain got a token", "sign in for one of them: tokenkeep login; the lines below \"Attempted credentials\" say why each of them failed"),
    said("401 or 403 from the service", &["(401)", "(403)", "status code 401", "status code 403", "status code: 401", "status code: 403", "statuscode: 401", "statuscode: 403", "authorizationfailed", "does not have authorization to perform action"], Permission, "signing in worked, but the service does not let this account do that", "see whose token it is: tokenkeep token --format json; then sign in with another account, or ask for a role on the resource"),
    said("EnvironmentCredential: not configured", &["environment variables are not fully configured", "incomplete environment configuration"], Unavailable, "the variables of a service principal are not all there", "set AZURE_CLIENT_ID and AZURE_TENANT_ID, and AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH, before the program starts"),
    said("ManagedIdentityCredential: not assigned", &["requested identity has not been assigned to this resource"], Unavailable, "the machine has no such managed identity", "check the client id of a user-assigned identity, or switch the system-assigned one on"),
    said("ManagedIdentityCredential: gateway error", &["request failed due to a gateway error"], Unavailable, "a proxy or gateway stands between the program and the machine's identity service", "let requests to 169.254.169.254 go without a proxy: NO_PROXY=169.254.169.254"),
    said("ManagedIdentityCredential: no response", &["no response received from the managed identity endpoint", "managed identity endpoint unavailable", "no response from the imds endpoint"], Unavailable, "the machine's identity service does not answer; outside Azure there is none", "on Azure give the machine an identity; elsewhere sign in: tokenkeep login"),
    said("ManagedIdentityCredential: several attempts failed", &["multiple attempts failed to obtain a token from the managed identity endpoint"], Unavailable, "the machine's identity service answered, but gave no token", "check that an identity is assigned, and read the answers further in"),
    said("ManagedIdentityCredential: unavailable", &["managedidentitycredential authentication unavailable", "no managed identity endpoint found"], Unavailable, "nothing in this environment offers a managed identity", "in App Service and AKS assign an identity and start again (a pod may have asked too early); elsewhere sign in: tokenkeep login"),
    said("VisualStudioCodeCredential: nobody signed in", &["failed to read vs code credentials", "authenticate via azure tools plugin in vs code"], Unavailable, "nobody is signed in to Azure in Visual Studio Code", "run \"Azure: Sign In\" in its command palette, or sign in here: tokenkeep login"),
    said("VisualStudioCredential: nobody signed in", &["failed to read credentials", "authenticate via azure service authentication"], Unavailable, "Visual Studio gave no token", "sign in under Tools, Options, Azure Service Authentication"),
    said("interaction required", &["msal interaction required", "authenticationrequirederror", "interaction_required", "msaluirequiredexception", "interactionrequiredautherror"], Interaction, "the login that was found is not enough any more", LOGIN),
    said("AD FS is not supported there", &["adfs tenant not supported"], Configuration, "this credential does not work with AD FS", "use an account of one of the clouds: login.microsoftonline.com, login.chinacloudapi.cn, login.microsoftonline.us"),
    said("AzureCliCredential: not installed", &["azure cli not found", "azure cli not installed", "azure cli is not installed"], Unavailable, "the program az was not found", "install the Azure CLI, and have its folder in PATH"),
    said("AzureCliCredential: nobody signed in", &["az login"], Unavailable, "nobody is signed in to the Azure CLI, or the login has expired", "az login; or give it a login of ours: tokenkeep login"),
    said("AzureCliCredential: bad subscription", &["contains invalid characters. if this is the name of a subscription"], Configuration, "the subscription's name has characters that cannot be passed on safely", "name the subscription by its id: az account show --name NAME --query id"),
    said("AzureDeveloperCliCredential: not installed", &["azure developer cli could not be found", "azure developer cli not found"], Unavailable, "the program azd was not found", "install the Azure Developer CLI, and have its folder in PATH"),
    said("AzureDeveloperCliCredential: nobody signed in", &["azd auth login"], Unavailable, "nobody is signed in to the Azure Developer CLI, or the login has expired", "azd auth login"),
    said("AzurePowerShellCredential: not installed", &["powershell is not installed"], Unavailable, "PowerShell was not found", "install PowerShell, and have pwsh in PATH"),
    said("AzurePowerShellCredential: module missing", &["az.account module >= 2.2.0 is not installed", "az.accounts module >= 2.2.0 is not installed", "no_az_account_module"], Unavailable, "PowerShell lacks the module for Azure", "Install-Module Az.Accounts"),
    said("AzurePowerShellCredential: nobody signed in", &["connect-azaccount"], Unavailable, "nobody is signed in to Azure PowerShell", "Connect-AzAccount"),
    said("WorkloadIdentityCredential: not configured", &["workloadidentitycredential authentication unavailable", "workload options are not fully configured"], Unavailable, "the variables of a workload identity are not all there", "set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE, or label the pod so that they are set"),
    said("AzurePipelinesCredential: no such connection", &["no service connection found with identifier"], Configuration, "the service connection does not exist", "take the id from resourceId in the address of the connection's page"),
    said("AzurePipelinesCredential: 401", &["response from oidc endpoint"], Configuration, "the pipeline's access token was not accepted", "pass the predefined variable System.AccessToken to the credential"),
    said("AzurePipelinesCredential: no token", &["oidc token not found in response", "oidctoken field not detected"], Configuration, "the pipeline's token service gave an error instead of a token", "read the message in its answer, and use a task that supports workload identity"),
    said("AzurePipelinesCredential: no pipeline", &["system_oidcrequesturi"], Unavailable, "this program does not run in Azure Pipelines", "use this credential in a pipeline only; here sign in: tokenkeep login"),
    said("another tenant", &["is not configured to acquire tokens for tenant"], Configuration, "the credential may not get tokens of the tenant that was asked for", "add the tenant, or *, to additionally_allowed_tenants of the credential"),
    said("unknown authority", &["invalid_instance", "is not trusted or well-known", "authority_validation"], Configuration, "the authority is none of Microsoft's clouds, or the provider does not know it", "check --authority and AZURE_AUTHORITY_HOST; if you trust it with your sign-in: --disable-instance-discovery"),
];
