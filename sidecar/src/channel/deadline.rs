//! A bound on how long a connector may take: TCP and TLS together.
//!
//! The HTTP client waits for its connector for ever, and with it every request that needs a connection. Stage
//! 22, and external targets.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connector that gives up.
#[derive(Debug, Clone)]
pub(crate) struct Deadline<C> {
    connector: C,
    limit: Duration,
}

impl<C> Deadline<C> {
    /// Lets `connector` take `limit` at most.
    pub(crate) const fn new(connector: C, limit: Duration) -> Self {
        Self { connector, limit }
    }
}

impl<C, R> Service<R> for Deadline<C>
where
    C: Service<R>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.connector.call(request);
        let limit = self.limit;
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_elapsed) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Silent;

    impl Service<()> for Silent {
        type Response = ();
        type Error = std::io::Error;
        type Future = std::future::Pending<Result<(), std::io::Error>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connector_ends() {
        let error = Deadline::new(Silent, Duration::from_secs(10))
            .call(())
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "timed out");
    }
}
