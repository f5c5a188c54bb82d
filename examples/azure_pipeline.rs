//! Gives a credential to the official Azure SDK, whose pipeline then adds its tokens to requests:
//!
//!     cargo run --features azure --example azure_pipeline -- https://RESOURCE/PATH SCOPE

#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::sync::Arc;

use azure_core::http::policies::Policy;
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_core::http::{ClientOptions, Context, Method, Pipeline, Request, Url};
use tokenkeep::TokenCachePersistenceOptions;
use tokenkeep::credential::{CredentialOptions, SharedTokenCacheCredential};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(scope)) = (arguments.next(), arguments.next()) else {
        return Err("usage: azure_pipeline URL SCOPE".into());
    };

    let options =
        CredentialOptions::default().cache_persistence_options(TokenCachePersistenceOptions::default());
    let credential = Arc::new(SharedTokenCacheCredential::new(options)?);

    let authorization: Arc<dyn Policy> =
        Arc::new(BearerTokenAuthorizationPolicy::new(credential, vec![scope]));
    let pipeline = Pipeline::new(None, None, ClientOptions::default(), Vec::new(), vec![authorization], None);
    let mut request = Request::new(Url::parse(&url)?, Method::Get);
    let response = pipeline.send(&Context::new(), &mut request, None).await?;
    println!("the resource answered {}", response.status());
    Ok(())
}
