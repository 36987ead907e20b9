//! How S3 clients are set up, and the ones that are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use weir_common::config::S3Config;

/// One request, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// No retry is begun later than this after the first try.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRIES: usize = 10;

/// Clients of this process: setting one up reads all root certificates, and its connections are worth keeping.
static CLIENTS: Mutex<Vec<Known>> = Mutex::new(Vec::new());
/// More than any process has use for.
const CLIENTS_MAX: usize = 32;

struct Known {
    bucket: String,
    config: S3Config,
    client: Arc<AmazonS3>,
}

/// The client for one bucket. What `config` leaves open comes from AWS' environment variables.
pub(crate) fn client(bucket: &str, config: &S3Config) -> object_store::Result<Arc<AmazonS3>> {
    // Nothing in here can leave the list half changed.
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |known: &&Known| known.bucket == bucket && known.config == *config;
    if let Some(known) = clients.iter().find(same) {
        return Ok(Arc::clone(&known.client));
    }
    let client = Arc::new(build(bucket, config)?);
    if clients.len() >= CLIENTS_MAX {
        clients.remove(0);
    }
    clients.push(Known {
        bucket: bucket.to_owned(),
        config: config.clone(),
        client: Arc::clone(&client),
    });
    Ok(client)
}

fn build(bucket: &str, config: &S3Config) -> object_store::Result<AmazonS3> {
    let mut options = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
        });
    if let Some(endpoint) = config.endpoint.clone().or_else(environment_endpoint) {
        options = options.with_allow_http(endpoint.starts_with("http://"));
        builder = builder
            .with_endpoint(endpoint)
            .with_virtual_hosted_style_request(false);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(id) = &config.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &config.secret_access_key {
        builder = builder.with_secret_access_key(&secret.0);
    }
    builder.with_client_options(options).build()
}

/// AWS' own variables for another server; the first that is set counts.
fn environment_endpoint() -> Option<String> {
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|endpoint| !endpoint.is_empty())
}
