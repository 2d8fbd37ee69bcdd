//! The client of each kind of object store. It waits for slow servers, but not for ever.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use super::access::{Access, VARIABLES};
use crate::error::{Error, Result};

/// What the client repeats by itself: refused connections, 5xx, 429, bodies that break off.
const MAX_RETRIES: usize = 6;
const RETRY_FOR: Duration = Duration::from_secs(60);

/// The store at `url` and the path in it.
pub(super) fn client(url: &str, access: &Access) -> Result<(Arc<dyn ObjectStore>, ObjectPath)> {
    let refuse = |message: String| Error::invalid(url, message);
    for key in access.settings.keys() {
        if !is_known(key) {
            return Err(Error::invalid(format!("store.settings.{key}"), "object_store has no such setting"));
        }
    }
    let parsed = Url::parse(url).map_err(|e| refuse(format!("not a URL: {e}")))?;
    let schemes = "give a folder, s3://, gs://, az:// or http(s)://";
    if parsed.query().is_some() {
        let hint =
            "a query, such as a signature, is not used for a data set; credentials belong in the environment (for \
                    Azure's SAS, AZURE_STORAGE_SAS_KEY)";
        return Err(refuse(hint.into()));
    }
    let (scheme, prefix) = ObjectStoreScheme::parse(&parsed).map_err(|e| refuse(format!("{e}; {schemes}")))?;
    macro_rules! build {
        ($builder:expr) => {{
            let builder = access.options().fold($builder, |builder, (key, value)| match key.parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder, // another cloud's setting
            });
            builder.with_retry(retry()).build().map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
        }};
    }
    let store = match scheme {
        ObjectStoreScheme::AmazonS3 => build!(AmazonS3Builder::new().with_url(url)),
        ObjectStoreScheme::GoogleCloudStorage => build!(GoogleCloudStorageBuilder::new().with_url(url)),
        ObjectStoreScheme::MicrosoftAzure => build!(MicrosoftAzureBuilder::new().with_url(url)),
        ObjectStoreScheme::Http => {
            let plain = if parsed.scheme() == "http" { "true" } else { "false" };
            let host = HttpBuilder::new().with_url(&parsed[..url::Position::BeforePath]);
            build!(host.with_config(ClientConfigKey::AllowHttp, plain))
        }
        _ => return Err(refuse(schemes.into())),
    };
    Ok((store.map_err(|e| refuse(e.to_string()))?, prefix))
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() }
}

/// The environment's variable for a setting: the cloud's own name of it, or what the HTTP client reads for a proxy.
pub(super) fn variable_of(key: &str) -> String {
    let key = key.to_ascii_lowercase();
    let named = [
        key.parse::<AmazonS3ConfigKey>().map(|known| known.as_ref().to_string()),
        key.parse::<AzureConfigKey>().map(|known| known.as_ref().to_string()),
        key.parse::<GoogleConfigKey>().map(|known| known.as_ref().to_string()),
    ];
    let name =
        named.into_iter().flatten().map(|name| name.to_ascii_uppercase()).find(|n| VARIABLES.contains(&n.as_str()));
    let proxy = || if key.starts_with("proxy") { "HTTPS_PROXY".into() } else { key.to_ascii_uppercase() };
    name.unwrap_or_else(proxy)
}

fn is_known(key: &str) -> bool {
    key.parse::<AmazonS3ConfigKey>().is_ok()
        || key.parse::<GoogleConfigKey>().is_ok()
        || key.parse::<AzureConfigKey>().is_ok()
        || key.parse::<ClientConfigKey>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_refused() {
        let access: Access = serde_yaml::from_str("settings: {aws_regoin: a}").expect("plain data");
        let error = client("s3://bucket/data", &access).expect_err("misspelt").to_string();
        assert!(error.contains("store.settings.aws_regoin"), "{error}");
        let access: Access = serde_yaml::from_str("settings: {aws_region: a}").expect("plain data");
        assert!(client("s3://bucket/data", &access).is_ok());
        assert!(client("http://localhost:1/data", &Access::default()).is_ok());
    }

    /// Whoever is told to set a variable must find that it is read.
    #[test]
    fn every_clouds_secret_has_a_variable_that_is_read() {
        let aws = ["access_key_id", "secret_access_key", "session_token", "sse_customer_key_base64"];
        let azure = ["account_key", "client_secret", "sas_key", "token", "encryption_key"];
        let named = aws.map(|n| format!("aws_{n}")).into_iter().chain(azure.map(|n| format!("azure_storage_{n}")));
        let others = ["azure_fabric_session_token", "google_service_account_key", "google_bearer_token"];
        for key in named.chain(others.map(String::from)) {
            assert!(is_known(&key) && recipe::secrets::is_secret(&key), "{key}");
            assert!(VARIABLES.contains(&variable_of(&key).as_str()), "{key}");
        }
    }

    #[test]
    fn a_signed_url_is_refused_without_its_signature() {
        let error = client("az://container/x?sig=s3cret", &Access::default()).expect_err("signed").to_string();
        assert!(error.contains("AZURE_STORAGE_SAS_KEY") && !error.contains("s3cret"), "{error}");
    }
}
