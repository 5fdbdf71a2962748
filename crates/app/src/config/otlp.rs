//! The `otlp` section.

use model::relabel::NameScheme;
use model::settings;

settings! {
    /// How OTLP is taken in.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Otlp ("config.plain") check(Otlp::judge) {
        /// Make labels of all resource attributes.
        pub promote_all_resource_attributes ("promote_all_resource_attributes"): bool;
        /// Make labels of these.
        pub promote_resource_attributes ("promote_resource_attributes"): Vec<String>;
        /// Make labels of all but these.
        pub ignore_resource_attributes ("ignore_resource_attributes"): Vec<String>;
        /// How names are translated.
        pub translation_strategy ("translation_strategy"): String =
            "UnderscoreEscapingWithSuffixes".to_owned();
        /// Keep `service.*` on `target_info`.
        pub keep_identifying_resource_attributes ("keep_identifying_resource_attributes"): bool;
        /// Make native histograms with custom buckets of classic ones.
        pub convert_histograms_to_nhcb ("convert_histograms_to_nhcb"): bool;
        /// Make labels of the scope's name, version, ...
        pub promote_scope_metadata ("promote_scope_metadata"): bool;
        /// Put `key_` before labels that begin with an underscore.
        pub label_name_underscore_sanitization ("label_name_underscore_sanitization"): bool = true;
        /// Keep several underscores in a row.
        pub label_name_preserve_multiple_underscores
            ("label_name_preserve_multiple_underscores"): bool = true;
    }
}

impl Otlp {
    fn judge(&mut self) -> Result<(), String> {
        if self.promote_all_resource_attributes {
            if !self.promote_resource_attributes.is_empty() {
                return Err("'promote_all_resource_attributes' and \
                            'promote_resource_attributes' cannot be configured simultaneously"
                    .to_owned());
            }
            return sanitize(&mut self.ignore_resource_attributes, "ignored")
                .map_err(|e| format!("invalid 'ignore_resource_attributes': {e}"));
        }
        if !self.ignore_resource_attributes.is_empty() {
            return Err("'ignore_resource_attributes' cannot be configured unless \
                        'promote_all_resource_attributes' is true"
                .to_owned());
        }
        sanitize(&mut self.promote_resource_attributes, "promoted")
            .map_err(|e| format!("invalid 'promote_resource_attributes': {e}"))
    }

    /// Whether names can be translated so under `scheme`.
    pub(super) fn check_names(&self, scheme: NameScheme) -> Result<(), String> {
        let strategy = self.translation_strategy.as_str();
        match strategy {
            "" | "UnderscoreEscapingWithSuffixes" | "UnderscoreEscapingWithoutSuffixes" => Ok(()),
            "NoTranslation" | "NoUTF8EscapingWithSuffixes" => match scheme {
                NameScheme::Utf8 => Ok(()),
                NameScheme::Legacy => Err(format!(
                    "OTLP translation strategy {strategy:?} is not allowed when UTF8 is disabled"
                )),
            },
            _ => Err(format!(
                "unsupported OTLP translation strategy {strategy:?}"
            )),
        }
    }
}

fn sanitize(attributes: &mut [String], adjective: &str) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    let mut errors = Vec::new();
    for attribute in attributes {
        let trimmed = attribute.trim().to_owned();
        if trimmed.is_empty() {
            errors.push(format!("empty {adjective} OTel resource attribute"));
        } else if !seen.insert(trimmed.clone()) {
            errors.push(format!(
                "duplicated {adjective} OTel resource attribute {trimmed:?}"
            ));
        } else {
            *attribute = trimmed;
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.join("\n"))
    }
}
