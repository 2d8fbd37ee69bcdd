//! How object stores are reached: a section of the recipes, completed by the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The clouds' own variables that are used.
const VARIABLES: [&str; 25] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
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
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_STORAGE_TENANT_ID",
];

/// The section `store` of a recipe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Settings by object_store's names, such as `aws_endpoint` or `allow_http`. Secrets belong in the environment.
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
    }
}
