//! Character classes: Perl's, POSIX', Unicode's, and folding them, as Go defines them.

use std::sync::OnceLock;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange, HirKind};

const DIGIT: &[(char, char)] = &[('0', '9')];
const SPACE: &[(char, char)] = &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// What `\d`, `\s` or `\w` stands for (their negations are capital letters).
pub(super) fn perl(letter: char, fold: bool) -> Option<ClassUnicode> {
    let ranges = match letter.to_ascii_lowercase() {
        'd' => DIGIT,
        's' => SPACE,
        'w' => WORD,
        _ => return None,
    };
    Some(group(ranges, letter.is_ascii_uppercase(), fold))
}

/// What `[:name:]` or `[:^name:]` stands for.
pub(super) fn posix(name: &str, fold: bool) -> Option<ClassUnicode> {
    let (name, negated) = match name.strip_prefix('^') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let ranges: &[(char, char)] = match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => DIGIT,
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => WORD,
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    };
    Some(group(ranges, negated, fold))
}

fn group(ranges: &[(char, char)], negated: bool, fold: bool) -> ClassUnicode {
    let mut class = ClassUnicode::new(ranges.iter().map(|&(a, b)| ClassUnicodeRange::new(a, b)));
    if fold {
        fold_class(&mut class);
    }
    if negated {
        negate(&mut class);
    }
    class
}

/// Adds the code points from `low` to `high`, surrogates left out: no text holds them.
pub(super) fn add_range(ranges: &mut Vec<ClassUnicodeRange>, low: u32, high: u32) {
    for (low, high) in [(low, high.min(0xd7ff)), (low.max(0xe000), high)] {
        if let (true, Some(a), Some(b)) = (low <= high, char::from_u32(low), char::from_u32(high)) {
            ranges.push(ClassUnicodeRange::new(a, b));
        }
    }
}

/// Adds all characters that differ from one in the class only by case.
pub(super) fn fold_class(class: &mut ClassUnicode) {
    if class.ranges().last().is_none_or(|r| r.end().is_ascii()) {
        return fold_ascii(class);
    }
    // Characters newer than Go's tables have no other case.
    let before = class.clone();
    class.intersect(age());
    if class.try_case_fold_simple().is_ok() {
        class.intersect(age());
        let mut newer = newer_pairs().clone();
        newer.difference(&before);
        class.difference(&newer);
    }
    class.union(&before);
}

/// Old characters that became each other's other case only in Unicode 15.1.
fn newer_pairs() -> &'static ClassUnicode {
    static PAIRS: OnceLock<ClassUnicode> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let pairs = [
            '\u{390}', '\u{1fd3}', '\u{3b0}', '\u{1fe3}', '\u{fb05}', '\u{fb06}',
        ];
        ClassUnicode::new(pairs.map(|c| ClassUnicodeRange::new(c, c)))
    })
}

/// Turns the class into all other characters.
pub(super) fn negate(class: &mut ClassUnicode) {
    // `ClassUnicode` does not see that nothing lies between these two neighbours.
    let mut ranges: Vec<ClassUnicodeRange> = Vec::with_capacity(class.ranges().len());
    for range in class.ranges() {
        match ranges.last_mut() {
            Some(last) if last.end() == '\u{d7ff}' && range.start() == '\u{e000}' => {
                *last = ClassUnicodeRange::new(last.start(), range.end());
            }
            _ => ranges.push(*range),
        }
    }
    *class = ClassUnicode::new(ranges);
    class.negate();
}

/// The same for a class within ASCII: two of its letters have another case outside.
fn fold_ascii(class: &mut ClassUnicode) {
    let before: Vec<ClassUnicodeRange> = class.ranges().to_vec();
    let flip = |c: char| char::from(c as u8 ^ 0x20);
    for (low, high) in [('A', 'Z'), ('a', 'z')] {
        for range in &before {
            let (low, high) = (range.start().max(low), range.end().min(high));
            if low <= high {
                class.push(ClassUnicodeRange::new(flip(low), flip(high)));
            }
        }
    }
    let has = |c: char| before.iter().any(|r| r.start() <= c && c <= r.end());
    for (small, capital, other) in [('k', 'K', '\u{212a}'), ('s', 'S', '\u{17f}')] {
        if has(small) || has(capital) {
            class.push(ClassUnicodeRange::new(other, other));
        }
    }
}

/// The class `\p{name}`, by the names that Go knows.
pub(super) fn unicode(name: &str, fold: bool) -> Option<ClassUnicode> {
    let name = canonical(name);
    let mut class = match name.as_str() {
        "Any" => all(),
        "Assigned" => {
            let mut class = category("Cn")?;
            negate(&mut class);
            return Some(class);
        }
        "Ascii" => ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7f')]),
        // Go folds every class but this one.
        "Lc" | "Casedletter" => return category("LC"),
        name => match ALIASES.iter().find(|(alias, _)| *alias == name) {
            Some((_, code)) => category(code)?,
            None if CATEGORIES.contains(&name) => category(name)?,
            None if SCRIPTS.contains(&name) => {
                let mut class = property("sc", name)?;
                class.intersect(age());
                class
            }
            None => return None,
        },
    };
    if fold {
        fold_class(&mut class);
    }
    Some(class)
}

/// A first capital, then small letters, without underscores, hyphens and spaces.
fn canonical(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')) {
        let first = out.is_empty();
        out.push(if first {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        });
    }
    out
}

fn all() -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)])
}

/// A general category as of Unicode 15.0.
fn category(code: &str) -> Option<ClassUnicode> {
    Some(match code {
        "Cn" => {
            let mut class = age().clone();
            negate(&mut class);
            class.union(&property("gc", "Cn")?);
            class
        }
        "C" => {
            let mut class = category("Cn")?;
            for part in ["Cc", "Cf", "Co"] {
                class.union(&category(part)?);
            }
            class
        }
        "Cs" => ClassUnicode::empty(), // surrogates
        // One character has moved between these since.
        "Mc" | "Mn" => {
            let moved = ClassUnicode::new([ClassUnicodeRange::new('\u{1171e}', '\u{1171e}')]);
            let mut class = property("gc", code)?;
            class.intersect(age());
            if code == "Mn" {
                class.union(&moved)
            } else {
                class.difference(&moved)
            }
            class
        }
        code => {
            let mut class = property("gc", code)?;
            class.intersect(age());
            class
        }
    })
}

fn property(key: &str, value: &str) -> Option<ClassUnicode> {
    let hir = regex_syntax::parse(&format!("\\p{{{key}={value}}}")).ok()?;
    match hir.into_kind() {
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => Some(class),
        // A class of one character becomes a literal.
        HirKind::Literal(literal) => {
            let c = std::str::from_utf8(&literal.0).ok()?.chars().next()?;
            Some(ClassUnicode::new([ClassUnicodeRange::new(c, c)]))
        }
        _ => None,
    }
}

/// Every character that Unicode 15.0, which Go 1.26 knows, had assigned.
fn age() -> &'static ClassUnicode {
    static AGE: OnceLock<ClassUnicode> = OnceLock::new();
    AGE.get_or_init(|| property("age", "15.0").unwrap_or_else(all))
}

/// Whether Go calls `c` a letter or a decimal digit.
pub(super) fn is_letter_or_digit(c: char) -> bool {
    static LETTERS: OnceLock<ClassUnicode> = OnceLock::new();
    let class = LETTERS.get_or_init(|| {
        let mut class = category("L").unwrap_or_else(ClassUnicode::empty);
        class.union(&category("Nd").unwrap_or_else(ClassUnicode::empty));
        class
    });
    contains(class, c)
}

/// Whether Go's tables hold `c` at all.
pub(super) fn is_known(c: char) -> bool {
    contains(age(), c)
}

fn contains(class: &ClassUnicode, c: char) -> bool {
    let ranges = class.ranges();
    let at = ranges.partition_point(|r| r.end() < c);
    ranges.get(at).is_some_and(|r| r.start() <= c)
}

const CATEGORIES: [&str; 37] = [
    "C", "Cc", "Cf", "Cn", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn",
    "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm",
    "So", "Z", "Zl", "Zp", "Zs",
];

/// Unicode's long names of the categories.
const ALIASES: [(&str, &str); 41] = [
    ("Closepunctuation", "Pe"),
    ("Cntrl", "Cc"),
    ("Combiningmark", "M"),
    ("Connectorpunctuation", "Pc"),
    ("Control", "Cc"),
    ("Currencysymbol", "Sc"),
    ("Dashpunctuation", "Pd"),
    ("Decimalnumber", "Nd"),
    ("Digit", "Nd"),
    ("Enclosingmark", "Me"),
    ("Finalpunctuation", "Pf"),
    ("Format", "Cf"),
    ("Initialpunctuation", "Pi"),
    ("Letter", "L"),
    ("Letternumber", "Nl"),
    ("Lineseparator", "Zl"),
    ("Lowercaseletter", "Ll"),
    ("Mark", "M"),
    ("Mathsymbol", "Sm"),
    ("Modifierletter", "Lm"),
    ("Modifiersymbol", "Sk"),
    ("Nonspacingmark", "Mn"),
    ("Number", "N"),
    ("Openpunctuation", "Ps"),
    ("Other", "C"),
    ("Otherletter", "Lo"),
    ("Othernumber", "No"),
    ("Otherpunctuation", "Po"),
    ("Othersymbol", "So"),
    ("Paragraphseparator", "Zp"),
    ("Privateuse", "Co"),
    ("Punct", "P"),
    ("Punctuation", "P"),
    ("Separator", "Z"),
    ("Spaceseparator", "Zs"),
    ("Spacingmark", "Mc"),
    ("Surrogate", "Cs"),
    ("Symbol", "S"),
    ("Titlecaseletter", "Lt"),
    ("Unassigned", "Cn"),
    ("Uppercaseletter", "Lu"),
];

/// Scripts by Go's names. Go 1.26 does not find those of several words (`Old_Italic`), because it
/// drops the underscore from what was asked but not from its table.
const SCRIPTS: [&str; 117] = [
    "Adlam",
    "Ahom",
    "Arabic",
    "Armenian",
    "Avestan",
    "Balinese",
    "Bamum",
    "Batak",
    "Bengali",
    "Bhaiksuki",
    "Bopomofo",
    "Brahmi",
    "Braille",
    "Buginese",
    "Buhid",
    "Carian",
    "Chakma",
    "Cham",
    "Cherokee",
    "Chorasmian",
    "Common",
    "Coptic",
    "Cuneiform",
    "Cypriot",
    "Cyrillic",
    "Deseret",
    "Devanagari",
    "Dogra",
    "Duployan",
    "Elbasan",
    "Elymaic",
    "Ethiopic",
    "Georgian",
    "Glagolitic",
    "Gothic",
    "Grantha",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hanunoo",
    "Hatran",
    "Hebrew",
    "Hiragana",
    "Inherited",
    "Javanese",
    "Kaithi",
    "Kannada",
    "Katakana",
    "Kawi",
    "Kharoshthi",
    "Khmer",
    "Khojki",
    "Khudawadi",
    "Lao",
    "Latin",
    "Lepcha",
    "Limbu",
    "Lisu",
    "Lycian",
    "Lydian",
    "Mahajani",
    "Makasar",
    "Malayalam",
    "Mandaic",
    "Manichaean",
    "Marchen",
    "Medefaidrin",
    "Miao",
    "Modi",
    "Mongolian",
    "Mro",
    "Multani",
    "Myanmar",
    "Nabataean",
    "Nandinagari",
    "Newa",
    "Nko",
    "Nushu",
    "Ogham",
    "Oriya",
    "Osage",
    "Osmanya",
    "Palmyrene",
    "Phoenician",
    "Rejang",
    "Runic",
    "Samaritan",
    "Saurashtra",
    "Sharada",
    "Shavian",
    "Siddham",
    "Sinhala",
    "Sogdian",
    "Soyombo",
    "Sundanese",
    "Syriac",
    "Tagalog",
    "Tagbanwa",
    "Takri",
    "Tamil",
    "Tangsa",
    "Tangut",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
    "Tifinagh",
    "Tirhuta",
    "Toto",
    "Ugaritic",
    "Vai",
    "Vithkuqi",
    "Wancho",
    "Yezidi",
    "Yi",
];
