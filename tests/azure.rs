//! Our credentials inside the official Azure SDK.

use std::sync::Arc;

use azure_core::credentials::{TokenCredential as AzureCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientMethodOptions, Context};
use emulator::{TENANT_TWO, USER_ONE};
use tokenkeep::credential::{
    DeviceCodeCredential, Interaction, InteractiveBrowserCredential, SharedTokenCacheCredential,
    TokenRequestExt,
};
use tokenkeep::{Claims, Error, TenantId};

use crate::support::{GRAPH, Quiet, SCOPE, World, follow, request};

#[derive(Debug)]
struct Follows(String);

impl Interaction for Follows {
    fn open_browser(&self, url: &str) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(follow(url, &self.0));
        Ok(())
    }
}

/// The three credentials, as any official crate takes them.
async fn credentials(world: &World) -> [Arc<dyn AzureCredential>; 3] {
    world.emulator.approve(USER_ONE);
    world.emulator.set(|settings| settings.auto_sign_in = Some(USER_ONE.into()));
    let by_code = DeviceCodeCredential::new(world.options(), Arc::new(Quiet)).unwrap();
    by_code.authenticate(&request(SCOPE)).await.unwrap();
    let follows = Follows(world.emulator.ca_pem().to_owned());
    let by_browser = InteractiveBrowserCredential::new(world.options(), Arc::new(follows)).unwrap();
    by_browser.authenticate(&request(SCOPE)).await.unwrap();
    let shared = SharedTokenCacheCredential::new(world.options()).unwrap();
    [Arc::new(by_code), Arc::new(by_browser), Arc::new(shared)]
}

fn with(extension: TokenRequestExt) -> TokenRequestOptions<'static> {
    let context = Context::default().with_value(extension);
    TokenRequestOptions { method_options: ClientMethodOptions { context } }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_credential_serves_the_sdk() {
    let world = World::plaintext();
    for credential in credentials(&world).await {
        world.emulator.reset_log();
        let token = credential.get_token(&[SCOPE], None).await.unwrap();
        assert!(token.token.secret().starts_with("eyJ"));
        assert!(token.expires_on.unix_timestamp() > 1_700_000_000);
        assert_eq!(world.emulator.count(""), 0, "the cache is ours");
        let error = credential.get_token(&[], None).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Credential), "{error:?}");
        let ours = error.downcast_ref::<Error>().unwrap();
        assert!(matches!(ours, Error::InvalidArgument(_)), "{ours:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_tenant_and_cae_reach_the_provider() {
    let world = World::plaintext();
    let challenge = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#;
    for credential in credentials(&world).await {
        world.emulator.reset_log();
        let extension = TokenRequestExt::default()
            .claims(Claims::parse(challenge).unwrap())
            .tenant_id(TenantId::parse(TENANT_TWO).unwrap());
        credential.get_token(&[GRAPH], Some(with(extension))).await.unwrap();
        let asked = world.emulator.log().pop().unwrap();
        assert_eq!(asked.tenant.as_deref(), Some(TENANT_TWO));
        assert_eq!(asked.claims.as_deref(), Some(challenge));
        assert!(!asked.cp1);
        assert!(asked.scope.unwrap().contains(GRAPH));
    }
    // Its own cache is empty, so a person is asked, with the capability in the request.
    let [_, by_browser, _] = credentials(&world).await;
    world.emulator.reset_log();
    by_browser.get_token(&[SCOPE], Some(with(TokenRequestExt::default().enable_cae(true)))).await.unwrap();
    assert!(world.emulator.log().iter().any(|entry| entry.is_kind("token") && entry.cp1));
}
