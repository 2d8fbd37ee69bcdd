//! The kind of a file by its name alone.

/// Pictures. The decoder decides which can be read; what it refuses is quarantined with its reason.
const PICTURES: [&str; 33] = [
    "jpg", "jpeg", "jpe", "jfif", "jif", "pjpeg", "pjp", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff",
    "avif", "avifs", "heic", "heif", "heics", "hif", "jp2", "j2k", "jpf", "jpx", "jxl", "ico", "tga", "ppm", "pgm",
    "pbm", "pnm", "qoi",
];

/// Files whose pixels need developing or rendering: decoders find a thumbnail in them at best.
const UNDEVELOPED: [(&str, &str); 25] = [
    ("dng", RAW),
    ("cr2", RAW),
    ("cr3", RAW),
    ("crw", RAW),
    ("nef", RAW),
    ("nrw", RAW),
    ("arw", RAW),
    ("srf", RAW),
    ("sr2", RAW),
    ("orf", RAW),
    ("rw2", RAW),
    ("raf", RAW),
    ("raw", RAW),
    ("pef", RAW),
    ("srw", RAW),
    ("3fr", RAW),
    ("iiq", RAW),
    ("svg", DRAWING),
    ("eps", DRAWING),
    ("ai", DRAWING),
    ("psd", DRAWING),
    ("xcf", DRAWING),
    ("kra", DRAWING),
    ("exr", "scene light, not display colours; export it as PNG or JPEG"),
    ("hdr", "scene light, not display colours; export it as PNG or JPEG"),
];
const RAW: &str = "a camera's raw file; develop it to JPEG or TIFF";
const DRAWING: &str = "a drawing or a project of layers; export it as PNG or JPEG";

/// Tables that Hugging Face's imagefolder reads.
const METADATA: [(&str, Table); 3] =
    [("metadata.jsonl", Table::Jsonl), ("metadata.csv", Table::Csv), ("metadata.parquet", Table::Parquet)];

/// Suffixes of tables that imagefolder does not read, although their names say that they are metadata.
const FOREIGN_TABLES: [&str; 9] = ["json", "jsonl", "ndjson", "csv", "tsv", "parquet", "xlsx", "arrow", "feather"];

/// How a metadata table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header line.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A picture for the decoder.
    Picture,
    /// A picture that needs another program; the text says what to do.
    Undeveloped(&'static str),
    /// A metadata table.
    Metadata(Table),
    /// A table with a metadata name in a format that is not read.
    ForeignTable,
    /// Anything else.
    Other,
}

impl Kind {
    /// The kind of the file of this name.
    pub fn of(name: &str) -> Self {
        if let Some((_, table)) = METADATA.iter().find(|(known, _)| *known == name) {
            return Kind::Metadata(*table);
        }
        let Some(suffix) = suffix(name) else { return Kind::Other };
        if PICTURES.contains(&suffix.as_str()) {
            return Kind::Picture;
        }
        if let Some((_, what)) = UNDEVELOPED.iter().find(|(known, _)| *known == suffix) {
            return Kind::Undeveloped(what);
        }
        let stem = name[..name.len() - suffix.len() - 1].to_ascii_lowercase();
        match stem == "metadata" && FOREIGN_TABLES.contains(&suffix.as_str()) {
            true => Kind::ForeignTable,
            false => Kind::Other,
        }
    }

    /// Whether the name is that of a picture, read or not.
    pub fn is_picture(self) -> bool {
        matches!(self, Kind::Picture | Kind::Undeveloped(_))
    }
}

/// What follows the last dot, in lower case.
pub fn suffix(name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.')?;
    (!stem.is_empty() && !suffix.is_empty()).then(|| suffix.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_files_are() {
        for name in ["a.jpg", "A.JPEG", "a.jpe", "a.b.jfif", "phone.HEIC", "web.avif", "scan.jp2"] {
            assert_eq!(Kind::of(name), Kind::Picture, "{name}");
        }
        assert!(Kind::of("a.NEF").is_picture());
        assert_eq!(Kind::of("metadata.csv"), Kind::Metadata(Table::Csv));
        for name in ["Metadata.jsonl", "metadata.json", "metadata.JSONL", "metadata.tsv"] {
            assert_eq!(Kind::of(name), Kind::ForeignTable, "{name}");
        }
        for name in ["a.txt", "a", "jpg", "a.", "my_metadata.csv", "é.x"] {
            assert_eq!(Kind::of(name), Kind::Other, "{name}");
        }
    }
}
