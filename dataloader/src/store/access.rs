//! How object stores are reached: a section of the recipes, completed by the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use recipe::secrets;
use schemars::JsonSchema;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::client::variable_of;

/// The clouds' own variables that are used.
pub(super) const VARIABLES: [&str; 31] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ALLOW_HTTP",
    "AWS_SKIP_SIGNATURE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_STORAGE_TENANT_ID",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_ENCRYPTION_KEY",
    "AZURE_FABRIC_SESSION_TOKEN",
];

/// The section `store` of a recipe.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Settings by object_store's names, such as `aws_endpoint` or `allow_http`. Keys, tokens and other secrets are
    /// refused here; they belong in the environment.
    #[serde(deserialize_with = "without_secrets")]
    pub settings: BTreeMap<String, String>,
    /// Where copies of an object store's shards are kept.
    pub cache: CacheSection,
    /// The environment's settings; never written to a resolved recipe.
    #[serde(skip)]
    env: Vec<(String, String)>,
}

/// Where copies of an object store's shards are kept, shared by all processes of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSection {
    /// A local folder.
    pub folder: PathBuf,
    /// Its size limit; the least recently used file is removed first. 0 keeps nothing.
    pub max_gigabytes: f64,
}

impl Default for CacheSection {
    fn default() -> Self {
        Self { folder: "runs/cache/shards".into(), max_gigabytes: 100.0 }
    }
}

impl Access {
    /// These settings, completed by the clouds' own variables, as `env` looks them up.
    pub fn with_env(self, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = VARIABLES.iter().filter_map(|name| Some((name.to_ascii_lowercase(), env(name)?)));
        Self { env: set.collect(), ..self }
    }

    /// All settings; the recipe's come last, so that they win.
    pub(super) fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        let env = self.env.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        env.chain(self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }
}

/// Without the environment's values, which may be secrets.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Access")
            .field("settings", &self.settings)
            .field("cache", &self.cache)
            .field("env", &names)
            .finish()
    }
}

/// Settings by name. A secret among them would be copied into every checkpoint, log and report; it is refused before
/// its value is looked at.
fn without_secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_map(Settings)
}

struct Settings;

impl<'de> Visitor<'de> for Settings {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut settings = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if secrets::is_secret(&key) {
                entries.next_value::<IgnoredAny>()?;
                return Err(A::Error::custom(refusal(&key, "is a secret")));
            }
            let value: String = entries.next_value()?;
            if secrets::has_secret(&value) {
                return Err(A::Error::custom(refusal(&key, "holds a password")));
            }
            settings.insert(key, value);
        }
        Ok(settings)
    }
}

fn refusal(key: &str, what: &str) -> String {
    let variable = variable_of(key);
    format!(
        "{key} {what}, and recipes are copied into checkpoints, logs and reports; take it out and set the environment \
         variable {variable}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_wins_over_the_environment_and_secrets_are_not_written() {
        let access: Access = serde_yaml::from_str("settings: {aws_region: a}").expect("valid");
        let variables = [("AWS_REGION", "b"), ("AWS_SECRET_ACCESS_KEY", "s3cret"), ("PATH", "/bin")];
        let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        let access = access.with_env(&env);
        let options: Vec<(&str, &str)> = access.options().collect();
        assert_eq!(options, [("aws_secret_access_key", "s3cret"), ("aws_region", "b"), ("aws_region", "a")]);
        assert!(!serde_yaml::to_string(&access).expect("plain data").contains("s3cret"));
        assert!(!format!("{access:?}").contains("s3cret"));
    }

    #[test]
    fn a_secret_is_refused_with_the_variable_to_use_and_without_its_value() {
        for (settings, variable) in [
            ("aws_secret_access_key: s3cret", "AWS_SECRET_ACCESS_KEY"),
            ("secret_access_key: s3cret", "AWS_SECRET_ACCESS_KEY"),
            ("access_key_id: s3cret", "AWS_ACCESS_KEY_ID"),
            ("aws_session_token: 3", "AWS_SESSION_TOKEN"),
            ("azure_storage_sas_key: [s3cret]", "AZURE_STORAGE_SAS_KEY"),
            ("google_service_account_key: s3cret", "GOOGLE_SERVICE_ACCOUNT_KEY"),
            ("proxy_url: http://a:s3cret@proxy", "HTTPS_PROXY"),
            ("aws_endpoint: https://a:s3cret@host", "AWS_ENDPOINT"),
        ] {
            let read = serde_yaml::from_str::<Access>(&format!("settings: {{{settings}}}"));
            let error = read.expect_err("a secret").to_string();
            assert!(error.contains(&format!("variable {variable}")) && !error.contains("s3cret"), "{error}");
        }
        let harmless =
            "settings: {aws_region: a, aws_web_identity_token_file: t, aws_sse_kms_key_id: k, proxy_url: http://p}";
        assert_eq!(serde_yaml::from_str::<Access>(harmless).expect("no secrets").settings.len(), 4);
    }
}
