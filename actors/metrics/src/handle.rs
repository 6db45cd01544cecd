//! The way into the metric registry.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ballpoint_runtime::supervision::{Address, Scope};
use serde_json::{Value, json};

use crate::api::ApiReply;
use crate::catalog::Catalog;
use crate::model::{Member, Model, SecurityContext};
use crate::plan::QueryError;
use crate::query::Query;
use crate::registry::{MetricRegistryMsg, MetricRegistryStatus, NAME};
use crate::served::Served;
use crate::service::{QueryResult, Service};

/// The way in. Cheap to clone; reaches whichever incarnation is alive.
#[derive(Clone, Debug)]
pub struct MetricRegistryHandle {
    address: Address<MetricRegistryMsg>,
    timeout: Duration,
    /// What the registry handed out last, for as long as it would hand out the same.
    last: Arc<RwLock<Option<Service>>>,
}

impl MetricRegistryHandle {
    pub fn new(scope: &Scope) -> Self {
        Self {
            address: Address::new(scope, NAME),
            timeout: Duration::from_secs(10),
            last: Arc::default(),
        }
    }

    /// What queries are answered with at this moment. Keep it for one request only.
    ///
    /// # Errors
    /// [`QueryError::Unavailable`] while no model is served.
    pub async fn service(&self) -> Result<Service, QueryError> {
        if let Some(service) = self.standing() {
            return Ok(service);
        }
        let service = self
            .address
            .call(
                |reply| MetricRegistryMsg::GetService { reply },
                self.timeout,
            )
            .await
            .map_err(|error| QueryError::Unavailable(error.to_string()))?
            .map_err(QueryError::Unavailable)?;
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        *last = Some(service.clone());
        Ok(service)
    }

    fn standing(&self) -> Option<Service> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .filter(|service| service.standing.holds())
            .cloned()
    }

    /// `/v1/load`.
    pub async fn load(&self, request: &Value, context: &SecurityContext) -> ApiReply {
        match self.service().await {
            Ok(service) => service.load(request, context).await,
            Err(error) => error.into(),
        }
    }

    /// `/v1/load` as the bytes to send. `raw` is the request as it was sent: the very same words
    /// get the kept reply, and `request` reads them only where there is none.
    pub async fn load_served(
        &self,
        raw: &str,
        request: impl FnOnce() -> Result<Value, String>,
        context: &SecurityContext,
    ) -> Served {
        let service = match self.service().await {
            Ok(service) => service,
            Err(error) => return ApiReply::from(error).into(),
        };
        if let Some(served) = service.served_before(raw, context) {
            return served;
        }
        match request() {
            Ok(request) => service.load_served(Some(raw), &request, context).await,
            Err(error) => ApiReply::from(QueryError::Invalid(error)).into(),
        }
    }

    /// `/v1/sql`.
    pub async fn sql(&self, request: &Value, context: &SecurityContext) -> ApiReply {
        self.service()
            .await
            .map_or_else(ApiReply::from, |service| service.sql(request, context))
    }

    /// `/v1/dry-run`.
    pub async fn dry_run(&self, request: &Value, context: &SecurityContext) -> ApiReply {
        self.service()
            .await
            .map_or_else(ApiReply::from, |service| service.dry_run(request, context))
    }

    /// `/v1/meta`; the request holds what stands in the URL: `extended`, `onlyViews`.
    pub async fn meta(&self, request: &Value, context: &SecurityContext) -> ApiReply {
        self.service()
            .await
            .map_or_else(ApiReply::from, |service| service.meta(request, context))
    }

    /// The members, with the values found in the data.
    ///
    /// # Errors
    /// As [`MetricRegistryHandle::service`].
    pub async fn catalog(&self) -> Result<Arc<Catalog>, QueryError> {
        Ok(Arc::clone(&self.service().await?.snapshot.catalog))
    }

    /// Answers a typed query.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn query(&self, query: &Query) -> Result<QueryResult, QueryError> {
        self.service().await?.query(query).await
    }

    /// The first and last time in the data of a time dimension, UTC.
    ///
    /// # Errors
    /// As [`MetricRegistryHandle::service`].
    pub async fn coverage(
        &self,
        time_dimension: &str,
    ) -> Result<Option<(String, String)>, QueryError> {
        Ok(self
            .service()
            .await?
            .snapshot
            .coverage
            .get(time_dimension)
            .cloned())
    }

    /// What a proof keeps of a member: its definition and that definition's hash.
    ///
    /// # Errors
    /// As [`MetricRegistryHandle::service`].
    pub async fn definition(&self, member: &str) -> Result<Option<Value>, QueryError> {
        Ok(self.service().await?.definition(member))
    }

    /// # Errors
    /// As [`MetricRegistryHandle::service`].
    pub async fn describe(&self) -> Result<MetricRegistryStatus, QueryError> {
        self.address
            .call(|reply| MetricRegistryMsg::Describe { reply }, self.timeout)
            .await
            .map_err(|error| QueryError::Unavailable(error.to_string()))
    }
}

impl Service {
    /// A member's definition, with the model's hash and its own.
    pub fn definition(&self, member: &str) -> Option<Value> {
        let model = &self.snapshot.model;
        Some(Self::definition_of(
            model,
            model.member(model.find(member)?),
        ))
    }

    /// The same of a model's member.
    pub fn definition_of(model: &Model, member: &Member) -> Value {
        json!({
            "member": member.full_name,
            "title": member.title,
            "description": member.description,
            "type": member.value_type(),
            "sql": member.sql,
            "format": member.format,
            "meta": member.meta,
            "hash": member.hash,
            "model_hash": model.hash,
        })
    }
}
