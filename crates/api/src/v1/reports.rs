//! Where the reports come from: this process, or all that a querier knows.

use model::report::{
    ExemplarsBySeries, HeadStatistics, MetadataByName, RuleGroupStatus, TargetsReport,
};
use model::{Answer, Matcher, Str, TimeRange};

use super::{Api, gather, head, targets};
use crate::error::ApiError;
use crate::params::Params;

pub(super) async fn rules(
    api: &Api,
    params: &Params,
) -> Result<Answer<Vec<RuleGroupStatus>>, ApiError> {
    if let Some(all) = &api.gathering {
        let partial = all.partial_reports.rules;
        let scope = gather::report_scope(api, all, params, TimeRange::ALL, partial)?;
        return Ok(all.reports.rules(scope).await?);
    }
    let groups = api.rules.as_ref().map(|r| r.rule_groups());
    Ok(groups.unwrap_or_default().into())
}

pub(super) async fn targets(api: &Api, params: &Params) -> Result<Answer<TargetsReport>, ApiError> {
    if let Some(all) = &api.gathering {
        let partial = all.partial_reports.targets;
        let scope = gather::report_scope(api, all, params, TimeRange::ALL, partial)?;
        return Ok(all.reports.targets(scope).await?);
    }
    Ok(targets::report(api)?.targets().into())
}

pub(super) async fn metadata(
    api: &Api,
    params: &Params,
    metric: Option<Str>,
    limit: usize,
) -> Result<Answer<MetadataByName>, ApiError> {
    if let Some(all) = &api.gathering {
        let partial = all.partial_reports.metadata;
        let scope = gather::report_scope(api, all, params, TimeRange::ALL, partial)?;
        return Ok(all.reports.metadata(metric, limit, scope).await?);
    }
    let report = targets::metadata_report(api)?;
    Ok(report.metadata(metric.as_deref()).into())
}

pub(super) async fn exemplars(
    api: &Api,
    params: &Params,
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
) -> Result<Answer<ExemplarsBySeries>, ApiError> {
    if let Some(all) = &api.gathering {
        let partial = all.partial_reports.exemplars;
        let scope = gather::report_scope(api, all, params, range, partial)?;
        return Ok(all.reports.exemplars(selectors, range, scope).await?);
    }
    let report = api
        .exemplars
        .as_ref()
        .ok_or_else(|| ApiError::not_served("exemplars"))?;
    Ok(report.exemplars(selectors, range).await.into())
}

pub(super) async fn head(
    api: &Api,
    params: &Params,
    limit: usize,
) -> Result<Answer<HeadStatistics>, ApiError> {
    let Some(all) = &api.gathering else {
        let report = head::report(api)?;
        return Ok(head::aside(move || report.head(limit)).await?.into());
    };
    let partial = all.partial_reports.statistics;
    let scope = gather::report_scope(api, all, params, TimeRange::ALL, partial)?;
    let mut matchers = Vec::new();
    for text in params.all("match[]") {
        let list = promql::parse::parse_selector(text)
            .map_err(|why| ApiError::param("match[]", why.to_string()))?;
        matchers.extend(list);
    }
    let answer = all.reports.statistics(limit, matchers, scope).await?;
    Ok(Answer {
        value: HeadStatistics::united(answer.value.into_iter().map(|(_, head)| head), limit),
        warnings: answer.warnings,
    })
}
