//! Names in a project from names in a database: any text becomes words, and words become a column,
//! a model, a cube, a member or a title.

use std::collections::BTreeSet;

use ballpoint_postgres::ident::IDENT_BYTES_MAX;

/// Words that SQL keeps for itself: a column called so would have to be quoted in every model.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization",
    "binary", "both", "case", "cast", "check", "collate", "collation", "column", "concurrently",
    "constraint", "create", "cross", "current_catalog", "current_date", "current_role",
    "current_schema", "current_time", "current_timestamp", "current_user", "default", "deferrable",
    "desc", "distinct", "do", "else", "end", "except", "false", "fetch", "for", "foreign", "freeze",
    "from", "full", "grant", "group", "having", "ilike", "in", "initially", "inner", "intersect",
    "into", "is", "isnull", "join", "lateral", "leading", "left", "like", "limit", "localtime",
    "localtimestamp", "natural", "not", "notnull", "null", "offset", "on", "only", "or", "order",
    "outer", "overlaps", "placing", "primary", "references", "returning", "right", "select",
    "session_user", "similar", "some", "symmetric", "system_user", "table", "tablesample", "then",
    "to", "trailing", "true", "union", "unique", "user", "using", "variadic", "verbose", "when",
    "where", "window", "with",
];

/// The words of a name, lower case, in letters and digits of ASCII: `OrderDate` and `order-date` are
/// `order`, `date`. Scripts without a Latin form give none.
pub(crate) fn words(name: &str) -> Vec<String> {
    spoken(name)
        .iter()
        .map(|word| word.chars().filter_map(folded).collect::<String>())
        .filter(|word| !word.is_empty())
        .collect()
}

/// The words of a name, lower case, in its own script.
pub(crate) fn spoken(name: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut word = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (at, &c) in chars.iter().enumerate() {
        if !c.is_alphanumeric() {
            out.push(std::mem::take(&mut word));
            continue;
        }
        let before = at.checked_sub(1).map(|n| chars[n]);
        let after = chars.get(at + 1);
        let rises = c.is_uppercase() && before.is_some_and(|b| b.is_lowercase() || b.is_numeric());
        let ends_acronym = c.is_uppercase()
            && before.is_some_and(char::is_uppercase)
            && after.is_some_and(|a| a.is_lowercase());
        if rises || ends_acronym {
            out.push(std::mem::take(&mut word));
        }
        word.extend(c.to_lowercase());
    }
    out.push(word);
    out.retain(|word| !word.is_empty());
    out
}

/// The plain letter below an accent.
fn folded(c: char) -> Option<char> {
    let plain = match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'ď' | 'đ' | 'ð' => 'd',
        'è'..='ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ğ' => 'g',
        'ì'..='ï' | 'ī' | 'ı' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ő' => 'o',
        'ř' => 'r',
        'ß' | 'ś' | 'š' | 'ş' => 's',
        'ť' | 'þ' => 't',
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        _ => c,
    };
    plain.is_ascii_alphanumeric().then_some(plain)
}

/// `order_date`; `None` when nothing of the name can be written so.
pub(crate) fn snake(words: &[String]) -> Option<String> {
    let joined = words.join("_");
    match joined.chars().next()? {
        first if first.is_ascii_digit() => Some(format!("n_{joined}")),
        _ => Some(joined),
    }
}

/// Whether a column of this name would have to be quoted.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// `orderDate`.
pub(crate) fn camel(words: &[String]) -> String {
    let mut out = String::new();
    for (at, word) in words.iter().enumerate() {
        if at == 0 {
            out.push_str(word);
        } else {
            out.push_str(&capitalised(word));
        }
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, 'n');
    }
    out
}

/// `OrderDate`.
pub(crate) fn pascal(words: &[String]) -> String {
    capitalised(&camel(words))
}

/// `Order Date`.
pub(crate) fn title(words: &[String]) -> String {
    words
        .iter()
        .map(|word| match word.as_str() {
            "id" | "url" | "sku" | "vat" | "iban" | "gpa" => word.to_uppercase(),
            _ => capitalised(word),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + chars.as_str()
    })
}

/// The words with the last one in the singular: `order items` → `order item`.
pub(crate) fn singular(words: &[String]) -> Vec<String> {
    with_last(words, |word| {
        let cut = |n: usize| word[..word.len() - n].to_owned();
        let ends = |list: &[&str]| list.iter().any(|end| word.ends_with(end));
        match word {
            "people" => "person".to_owned(),
            "children" => "child".to_owned(),
            "series" | "news" | "species" | "status" | "bus" => word.to_owned(),
            _ if word.len() < 4 => word.to_owned(),
            _ if word.ends_with("ies") => cut(3) + "y",
            _ if ends(&["sses", "ches", "shes", "xes", "zes", "uses"]) => cut(2),
            _ if word.ends_with('s') && !ends(&["ss", "us", "is"]) => cut(1),
            _ => word.to_owned(),
        }
    })
}

/// The words with the last one in the plural.
pub(crate) fn plural(words: &[String]) -> Vec<String> {
    with_last(&singular(words), |word| {
        let ends = |list: &[&str]| list.iter().any(|end| word.ends_with(end));
        match word {
            "person" => "people".to_owned(),
            "child" => "children".to_owned(),
            "series" | "news" | "species" | "data" | "history" => word.to_owned(),
            _ if word.ends_with('y') && !ends(&["ay", "ey", "oy", "uy"]) => {
                format!("{}ies", &word[..word.len() - 1])
            }
            _ if ends(&["s", "x", "z", "ch", "sh"]) => format!("{word}es"),
            _ => format!("{word}s"),
        }
    })
}

fn with_last(words: &[String], change: impl Fn(&str) -> String) -> Vec<String> {
    let mut out = words.to_vec();
    if let Some(last) = out.last_mut() {
        // Digits have no plural.
        if last.chars().all(char::is_alphabetic) {
            *last = change(last);
        }
    }
    out
}

/// Names that may be given once.
#[derive(Debug, Default)]
pub(crate) struct Taken(BTreeSet<String>);

impl Taken {
    /// `wanted`, short enough for an identifier, or the first of `wanted_2`, `wanted_3`, … that is
    /// free.
    pub(crate) fn give(&mut self, wanted: &str) -> String {
        let mut name = cut(wanted, "");
        for number in 2.. {
            if self.0.insert(name.to_lowercase()) {
                break;
            }
            name = cut(wanted, &format!("_{number}"));
        }
        name
    }

    /// Whether `name` is given already.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(&name.to_lowercase())
    }
}

/// `name` with `end`, cut to what PostgreSQL keeps. Names here are ASCII.
fn cut(name: &str, end: &str) -> String {
    let room = IDENT_BYTES_MAX - end.len();
    format!("{}{end}", &name[..name.len().min(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(name: &str) -> String {
        words(name).join(" ")
    }

    #[test]
    fn any_name_becomes_words() {
        for (name, expected) in [
            ("order_items", "order items"),
            ("OrderDate", "order date"),
            ("orderID", "order id"),
            ("HTTPCode", "http code"),
            ("Größe (cm)", "grose cm"),
            ("line1Total", "line1 total"),
            ("名前", ""),
        ] {
            assert_eq!(all(name), expected, "{name}");
        }
        assert_eq!(spoken("名前"), ["名前"]);
    }

    #[test]
    fn nouns_have_a_singular_and_a_plural() {
        for (one, many) in [
            ("order", "orders"),
            ("category", "categories"),
            ("box", "boxes"),
            ("class", "classes"),
            ("status", "statuses"),
            ("person", "people"),
            ("day", "days"),
        ] {
            assert_eq!(plural(&words(one)).join(" "), many);
            assert_eq!(singular(&words(many)).join(" "), one);
            assert_eq!(plural(&words(many)).join(" "), many);
        }
    }

    #[test]
    fn a_name_is_given_once_and_fits() {
        let mut taken = Taken::default();
        let long = "x".repeat(80);
        assert_eq!(taken.give("a"), "a");
        assert_eq!(taken.give("A"), "A_2");
        assert_eq!(taken.give(&long).len(), IDENT_BYTES_MAX);
        let second = taken.give(&long);
        assert!(second.ends_with("_2") && second.len() == IDENT_BYTES_MAX);
    }

    #[test]
    fn names_suit_their_place() {
        let name = words("2nd order-date");
        assert_eq!(snake(&name).as_deref(), Some("n_2nd_order_date"));
        assert_eq!(camel(&name), "n2ndOrderDate");
        assert_eq!(pascal(&words("order items")), "OrderItems");
        assert_eq!(title(&words("customer_id")), "Customer ID");
        assert!(is_reserved("order") && !is_reserved("orders"));
    }
}
