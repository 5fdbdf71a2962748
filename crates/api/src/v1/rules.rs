//! `rules`, `alerts`, `alertmanagers`: the shapes of a process without rules.

use axum::response::Response;
use serde::Serialize;

use crate::error::{ApiError, success};
use crate::params::Params;

pub(super) async fn rules(params: Params) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Rules {
        groups: [(); 0],
    }
    params.whole()?;
    params.selectors().map_err(ApiError::bad)?;
    let kind = params.url("type").to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        let why = format!("not supported value {}", crate::params::quoted(&kind));
        return Err(ApiError::param("type", why));
    }
    success(&Rules { groups: [] })
}

pub(super) async fn alerts() -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Alerts {
        alerts: [(); 0],
    }
    success(&Alerts { alerts: [] })
}

pub(super) async fn alertmanagers() -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Alertmanagers {
        active_alertmanagers: [(); 0],
        dropped_alertmanagers: [(); 0],
    }
    success(&Alertmanagers {
        active_alertmanagers: [],
        dropped_alertmanagers: [],
    })
}
