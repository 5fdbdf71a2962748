//! The link of an alert to its expression.

/// Where an expression is looked at, below a URL: a text with places for the escaped expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link(Vec<String>);

impl Default for Link {
    /// Prometheus' own.
    fn default() -> Self {
        Self(vec!["/graph?g0.expr=".to_owned(), "&g0.tab=1".to_owned()])
    }
}

impl Link {
    /// Reads a template whose only action is `{{.Expr}}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after
                .split_once("}}")
                .ok_or_else(|| format!("{text:?}: unclosed action"))?;
            let action = action.trim_matches('-').trim();
            if action != ".Expr" {
                return Err(format!(
                    "{text:?}: {{{{{action}}}}} is not understood; only {{{{.Expr}}}} is"
                ));
            }
            parts.push(before.to_owned());
            rest = after;
        }
        parts.push(rest.to_owned());
        Ok(Self(parts))
    }

    /// The link to `expr`.
    pub(crate) fn of(&self, expr: &str) -> String {
        self.0.join(&crate::template::query_escape(expr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_put_in_escaped() {
        let want = "/graph?g0.expr=up+%3D%3D+0&g0.tab=1";
        assert_eq!(Link::default().of("up == 0"), want);
        let text = "/graph?g0.expr={{.Expr}}&g0.tab=1";
        assert_eq!(Link::parse(text).unwrap(), Link::default());
        let grafana = Link::parse("/explore?q={{ .Expr }}&again={{- .Expr -}}").unwrap();
        assert_eq!(grafana.of("a+b"), "/explore?q=a%2Bb&again=a%2Bb");
        assert_eq!(Link::parse("/").unwrap().of("a"), "/");
        assert!(Link::parse("{{.Expr").is_err());
        assert!(
            Link::parse("{{.Labels}}")
                .unwrap_err()
                .contains("{{.Expr}}")
        );
    }
}
