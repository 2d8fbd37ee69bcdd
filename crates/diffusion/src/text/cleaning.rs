//! Prompt cleaning of OpenAI's CLIP (Radford et al. 2021, `basic_clean` in simple_tokenizer.py): ftfy, then HTML
//! entities twice, then strip.
//!
//! It covers what prompts contain: curly quotes, Latin ligatures, full-width forms, control characters and HTML
//! entities. It does not repair mojibake, and knows the common entity names rather than all 2231 of HTML 5.

/// What happens to a prompt before it is split into words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cleaning {
    /// As the published CLIP does, on whose cleaned captions the models were trained.
    #[default]
    Original,
    /// Nothing: transformers' fast CLIPTokenizer leaves quotes, ligatures and entities as they stand.
    None,
}

impl Cleaning {
    /// The text the byte-level BPE should see.
    pub fn apply(self, text: &str) -> String {
        match self {
            Cleaning::None => text.to_string(),
            Cleaning::Original => unescape(&unescape(&fix_text(text), false), false).trim().to_string(),
        }
    }
}

/// ftfy's `fix_text` without the repair of mojibake: entities are only resolved in text without markup.
fn fix_text(text: &str) -> String {
    let text = if text.contains('<') { text.to_string() } else { unescape(text, true) };
    let mut fixed = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => fixed.push('\''),
            '\u{201c}'..='\u{201f}' => fixed.push('"'),
            '\u{3000}' => fixed.push(' '),
            '\u{ff01}'..='\u{ff5e}' => fixed.extend(char::from_u32(c as u32 - 0xff01 + 0x21)),
            _ if is_control(c) => {}
            _ => match ligature(c) {
                Some(letters) => fixed.push_str(letters),
                None => fixed.push(c),
            },
        }
    }
    fixed
}

fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}')
}

fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// Resolves HTML entities, as Python's `html.unescape`; `strict` asks for the closing semicolon, as ftfy does.
fn unescape(text: &str, strict: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match entity(rest, strict) {
            Some((resolved, used)) => {
                out.push(resolved);
                rest = &rest[used..];
            }
            None => out.push('&'),
        }
    }
    out.push_str(rest);
    out
}

/// The character named at the start of `text` (which follows an ampersand) and the bytes its name takes.
fn entity(text: &str, strict: bool) -> Option<(char, usize)> {
    if let Some(number) = text.strip_prefix('#') {
        let (resolved, used) = numeric(number, strict)?;
        return Some((resolved, used + 1));
    }
    let named = ENTITIES.iter().find_map(|&(name, resolved, _)| {
        let closed = text.strip_prefix(name)?.starts_with(';');
        closed.then_some((resolved, name.len() + 1))
    });
    let open = || {
        let legacy = ENTITIES.iter().filter(|(name, _, legacy)| *legacy && text.starts_with(name));
        legacy.map(|&(name, resolved, _)| (resolved, name.len())).max_by_key(|&(_, used)| used)
    };
    named.or_else(|| if strict { None } else { open() })
}

fn numeric(text: &str, strict: bool) -> Option<(char, usize)> {
    let (digits, radix, prefix) = match text.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16, 1),
        None => (text, 10, 0),
    };
    let length = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let closed = digits[length..].starts_with(';');
    if length == 0 || (strict && !closed) {
        return None;
    }
    let code = u32::from_str_radix(&digits[..length], radix).unwrap_or(u32::MAX);
    let resolved = if code == 0 { '\u{fffd}' } else { char::from_u32(code).unwrap_or('\u{fffd}') };
    Some((resolved, prefix + length + usize::from(closed)))
}

/// Name, character, and whether HTML also takes it without a semicolon.
const ENTITIES: &[(&str, char, bool)] = &[
    ("amp", '&', true),
    ("lt", '<', true),
    ("gt", '>', true),
    ("quot", '"', true),
    ("apos", '\'', false),
    ("nbsp", '\u{a0}', true),
    ("copy", '©', true),
    ("reg", '®', true),
    ("trade", '™', false),
    ("deg", '°', true),
    ("pound", '£', true),
    ("yen", '¥', true),
    ("euro", '€', false),
    ("cent", '¢', true),
    ("sect", '§', true),
    ("middot", '·', true),
    ("laquo", '«', true),
    ("raquo", '»', true),
    ("times", '×', true),
    ("frac12", '½', true),
    ("hellip", '…', false),
    ("mdash", '—', false),
    ("ndash", '–', false),
    ("lsquo", '‘', false),
    ("rsquo", '’', false),
    ("ldquo", '“', false),
    ("rdquo", '”', false),
    ("bull", '•', false),
    ("hearts", '♥', false),
    ("agrave", 'à', true),
    ("aacute", 'á', true),
    ("acirc", 'â', true),
    ("auml", 'ä', true),
    ("ccedil", 'ç', true),
    ("egrave", 'è', true),
    ("eacute", 'é', true),
    ("ecirc", 'ê', true),
    ("iacute", 'í', true),
    ("ntilde", 'ñ', true),
    ("oacute", 'ó', true),
    ("ocirc", 'ô', true),
    ("ouml", 'ö', true),
    ("uacute", 'ú', true),
    ("uuml", 'ü', true),
    ("szlig", 'ß', true),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_resolve_as_pythons_html_unescape_does() {
        let cases = [
            ("&lt;b&gt; &amp;amp; x", "<b> &amp; x"),
            ("&copying &notanentity; & &;", "©ing &notanentity; & &;"),
            ("&#39;&#x41;&#X42 &#; &#0;", "'AB &#; \u{fffd}"),
            ("&hellip &hellip;", "&hellip …"),
        ];
        for (text, expected) in cases {
            assert_eq!(unescape(text, false), expected);
        }
        assert_eq!(unescape("&amp &amp;", true), "&amp &");
    }

    #[test]
    fn quotes_ligatures_and_widths_become_plain() {
        assert_eq!(Cleaning::Original.apply(" “ﬁne” ‘ＡＷＥ’\u{feff} "), "\"fine\" 'AWE'");
        assert_eq!(Cleaning::None.apply(" “ﬁne” "), " “ﬁne” ");
    }
}
