//! The Rules service over what a process says of its rules.

use std::sync::Arc;

use model::report::{AlertState, AlertStatus, RuleGroupStatus, RuleKind, RuleStatus, RulesReport};
use model::scope::PartialResponse;
use model::text::format_e;
use model::{Labels, Millis};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use wire::convert;
use wire::grpc::{Request, Response, Status};
use wire::proto::Timestamp;
use wire::proto::thanos as pb;
use wire::proto::thanos::rule::Result as Kind;
use wire::proto::thanos::rules_server::{Rules, RulesServer};

/// The Rules service of `report`.
pub fn rules_service(report: Arc<dyn RulesReport>) -> RulesServer<impl Rules> {
    RulesServer::new(Server(report)).max_encoding_message_size(wire::grpc::MAX_MESSAGE)
}

/// A report whose rules have the external labels of the process, as others are told them.
pub struct LabelledRules {
    /// The rules.
    pub inner: Arc<dyn RulesReport>,
    /// The labels; they win over a rule's own.
    pub labels: Labels,
}

impl RulesReport for LabelledRules {
    fn rule_groups(&self) -> Vec<RuleGroupStatus> {
        let mut groups = self.inner.rule_groups();
        for rule in groups.iter_mut().flat_map(|group| &mut group.rules) {
            rule.labels = rule.labels.overlay(&self.labels);
        }
        groups
    }
}

struct Server(Arc<dyn RulesReport>);

type Answers = ReceiverStream<Result<pb::RulesResponse, Status>>;

#[wire::grpc::async_trait]
impl Rules for Server {
    type RulesStream = Answers;

    async fn rules(&self, request: Request<pb::RulesRequest>) -> Result<Response<Answers>, Status> {
        let asked = request.into_inner();
        let takes = |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
        let mut groups = self.0.rule_groups();
        groups.retain(|g| takes(&asked.rule_group, &g.name) && takes(&asked.file, &g.file));
        for group in &mut groups {
            group.rules.retain(|rule| {
                let of_kind = match (&rule.kind, asked.r#type()) {
                    (RuleKind::Alerting { .. }, kind) => kind != pb::rules_request::Type::Record,
                    (RuleKind::Recording, kind) => kind != pb::rules_request::Type::Alert,
                };
                of_kind && takes(&asked.rule_name, &rule.name)
            });
        }
        let (send, receive) = mpsc::channel(4);
        tokio::spawn(async move {
            for group in &groups {
                let result = Some(pb::rules_response::Result::Group(to_group(group)));
                if send.send(Ok(pb::RulesResponse { result })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

fn seconds(ms: Millis) -> f64 {
    ms as f64 / 1000.0
}

/// A moment that may not have come yet.
fn moment(ms: Millis) -> Option<Timestamp> {
    (ms != 0).then(|| convert::to_timestamp(ms))
}

fn to_group(group: &RuleGroupStatus) -> pb::RuleGroup {
    let strategy = match group.partial_response {
        PartialResponse::Warn => pb::PartialResponseStrategy::Warn,
        PartialResponse::Abort => pb::PartialResponseStrategy::Abort,
    } as i32;
    pb::RuleGroup {
        name: group.name.to_string(),
        file: group.file.to_string(),
        rules: group.rules.iter().map(|r| to_rule(r, strategy)).collect(),
        interval: seconds(group.interval),
        evaluation_duration_seconds: group.evaluation_time,
        last_evaluation: moment(group.last_evaluation),
        partial_response_strategy: strategy,
        limit: i64::try_from(group.limit).unwrap_or(i64::MAX),
    }
}

fn to_rule(rule: &RuleStatus, strategy: i32) -> pb::Rule {
    let labels = Some(convert::to_label_set(&rule.labels));
    let health = rule.health.as_str().to_owned();
    let last_evaluation = moment(rule.last_evaluation);
    let result = match &rule.kind {
        RuleKind::Recording => Kind::Recording(pb::RecordingRule {
            name: rule.name.to_string(),
            query: rule.query.clone(),
            labels,
            health,
            last_error: rule.last_error.clone(),
            evaluation_duration_seconds: rule.evaluation_time,
            last_evaluation,
        }),
        RuleKind::Alerting {
            state,
            hold,
            keep_firing_for,
            annotations,
            alerts,
        } => Kind::Alert(pb::Alert {
            state: to_state(*state),
            name: rule.name.to_string(),
            query: rule.query.clone(),
            duration_seconds: seconds(*hold),
            labels,
            annotations: Some(convert::to_label_set(annotations)),
            alerts: alerts.iter().map(|a| to_alert(a, strategy)).collect(),
            health,
            last_error: rule.last_error.clone(),
            evaluation_duration_seconds: rule.evaluation_time,
            last_evaluation,
            keep_firing_for_seconds: seconds(*keep_firing_for),
        }),
    };
    pb::Rule {
        result: Some(result),
    }
}

fn to_alert(alert: &AlertStatus, strategy: i32) -> pb::AlertInstance {
    pb::AlertInstance {
        labels: Some(convert::to_label_set(&alert.labels)),
        annotations: Some(convert::to_label_set(&alert.annotations)),
        state: to_state(alert.state),
        active_at: Some(convert::to_timestamp(alert.active_at)),
        value: format_e(alert.value, None),
        partial_response_strategy: strategy,
    }
}

fn to_state(state: AlertState) -> i32 {
    (match state {
        AlertState::Inactive => pb::AlertState::Inactive,
        AlertState::Pending => pb::AlertState::Pending,
        AlertState::Firing => pb::AlertState::Firing,
    }) as i32
}

#[cfg(test)]
mod tests {
    use model::report::RuleHealth;
    use tokio_stream::StreamExt as _;

    use super::*;

    struct Fixed;

    impl RulesReport for Fixed {
        fn rule_groups(&self) -> Vec<RuleGroupStatus> {
            let rule = |name: &str, kind| RuleStatus {
                name: name.into(),
                query: "up == 0".to_owned(),
                labels: Labels::from_pairs([("severity", "page"), ("region", "own")]),
                health: RuleHealth::Bad,
                last_error: "no".to_owned(),
                evaluation_time: 0.5,
                last_evaluation: 1_700_000_000_123,
                kind,
            };
            let alert = AlertStatus {
                labels: Labels::from_pairs([("alertname", "Down")]),
                annotations: Labels::default(),
                state: AlertState::Firing,
                active_at: 1000,
                keep_firing_since: None,
                value: 1.0,
            };
            let alerting = RuleKind::Alerting {
                state: AlertState::Firing,
                hold: 60_000,
                keep_firing_for: 0,
                annotations: Labels::default(),
                alerts: vec![alert],
            };
            vec![RuleGroupStatus {
                name: "g".into(),
                file: "r.yml".into(),
                interval: 30_000,
                limit: 0,
                rules: vec![rule("Down", alerting), rule("up:sum", RuleKind::Recording)],
                evaluation_time: 1.0,
                last_evaluation: 0,
                partial_response: PartialResponse::Abort,
            }]
        }
    }

    async fn asked(request: pb::RulesRequest) -> Vec<pb::RuleGroup> {
        let report = LabelledRules {
            inner: Arc::new(Fixed),
            labels: Labels::from_pairs([("region", "eu")]),
        };
        let server = Server(Arc::new(report));
        let answer = server.rules(Request::new(request)).await.unwrap();
        let all: Vec<_> = answer.into_inner().collect().await;
        all.into_iter()
            .map(|one| match one.unwrap().result {
                Some(pb::rules_response::Result::Group(group)) => group,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[tokio::test]
    async fn groups_are_told_with_external_labels() {
        let groups = asked(pb::RulesRequest::default()).await;
        assert_eq!(groups[0].rules.len(), 2);
        assert_eq!(groups[0].last_evaluation, None);
        assert_eq!(
            groups[0].partial_response_strategy(),
            pb::PartialResponseStrategy::Abort
        );
        let Some(Kind::Alert(alert)) = &groups[0].rules[0].result else {
            panic!("it alerts");
        };
        let labels = convert::label_set(&alert.labels).to_string();
        assert_eq!(labels, r#"{region="eu", severity="page"}"#);
        assert_eq!(
            (alert.state(), alert.alerts[0].value.as_str()),
            (pb::AlertState::Firing, "1e+00")
        );
        assert_eq!(
            (alert.health.as_str(), alert.last_error.as_str()),
            ("err", "no")
        );
    }

    #[tokio::test]
    async fn a_request_may_ask_for_some() {
        let of_type = |kind: pb::rules_request::Type| pb::RulesRequest {
            r#type: kind as i32,
            ..Default::default()
        };
        let groups = asked(of_type(pb::rules_request::Type::Record)).await;
        assert!(matches!(
            groups[0].rules[0].result,
            Some(Kind::Recording(_))
        ));
        assert_eq!(
            asked(of_type(pb::rules_request::Type::Alert)).await[0]
                .rules
                .len(),
            1
        );
        let elsewhere = pb::RulesRequest {
            file: vec!["other.yml".to_owned()],
            ..Default::default()
        };
        assert_eq!(asked(elsewhere).await, []);
    }
}
