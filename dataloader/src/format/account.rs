//! Counts of what a folder holds beside the images that are read or quarantined, so that every entry is accounted
//! for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts of entries that are not read as images of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Account {
    /// Files of other kinds, by suffix with its dot; those without one under "no suffix".
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other_files: BTreeMap<String, u64>,
    /// Links to folders and files that are read under their own names.
    #[serde(skip_serializing_if = "is_zero")]
    pub links: u64,
    /// Named pipes, sockets and devices, which are never opened.
    #[serde(skip_serializing_if = "is_zero")]
    pub special_files: u64,
    /// Files and folders whose names begin with a dot, which are not looked into.
    #[serde(skip_serializing_if = "is_zero")]
    pub hidden: u64,
    /// Images that the recipe excludes.
    #[serde(skip_serializing_if = "is_zero")]
    pub excluded: u64,
    /// Images that the metadata names only in columns such as `mask_file_name`, as parts of another image's row.
    #[serde(skip_serializing_if = "is_zero")]
    pub parts_of_rows: u64,
    /// Images that are read although the metadata of their folder has no row for them.
    #[serde(skip_serializing_if = "is_zero")]
    pub without_row: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Account {
    /// Whether every count is zero.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts a file of another kind.
    pub fn add_other(&mut self, suffix: Option<&str>) {
        let kind = suffix.map_or_else(|| "no suffix".to_string(), |suffix| format!(".{suffix}"));
        *self.other_files.entry(kind).or_default() += 1;
    }

    /// The counts that are not zero, each in words: `4 files of other kinds: .txt 3, .mp4 1`.
    pub fn describe(&self) -> Vec<String> {
        let mut kinds: Vec<(&String, &u64)> = self.other_files.iter().collect();
        kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), kind.as_str()));
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let kinds = kinds.join(", ");
        let counts = [
            (self.other_files.values().sum(), "file", format!(" of other kinds: {kinds}")),
            (self.links, "link", " to what is read under its own name".into()),
            (self.special_files, "special file", ", not opened: pipes, sockets or devices".into()),
            (self.hidden, "hidden name", ", not looked into".into()),
            (self.excluded, "image", " excluded".into()),
            (self.parts_of_rows, "image", " named as part of another image's row".into()),
            (self.without_row, "image", " without a row in the metadata of the folder".into()),
        ];
        let plural = |count| if count == 1 { "" } else { "s" };
        let said = counts.into_iter().filter(|(count, ..)| *count > 0);
        said.map(|(count, what, which)| format!("{count} {what}{}{which}", plural(count))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_number() {
        let mut account = Account { links: 2, ..Account::default() };
        [Some("txt"), Some("mp4"), Some("txt"), None].into_iter().for_each(|suffix| account.add_other(suffix));
        assert_eq!(
            account.describe(),
            ["4 files of other kinds: .txt 2, .mp4 1, no suffix 1", "2 links to what is read under its own name"]
        );
        assert!(Account::default().is_empty() && Account::default().describe().is_empty());
        assert_eq!(serde_json::to_value(&account).expect("plain data")["links"], 2);
    }
}
