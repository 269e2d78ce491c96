//! The floor: what a handshake costs when the server does nothing else.

use std::sync::Arc;

use unicity_device_sim::SimError;

use super::{Pool, Site};
use crate::Stage;
use crate::client::{Failed, Trace};
use crate::drive::Operation;

/// A handshake, a byte, its echo, and the end. The byte is there so that a handshake counts only once the server has verified
/// the device: in TLS 1.3 the client is done before that.
pub struct Floor {
    /// Where; a server that answers one byte with one.
    pub site: Arc<Site>,
    /// Who; the same devices come again and again.
    pub pool: Arc<Pool>,
}

impl Operation for Floor {
    async fn run(&self, index: u64, trace: &mut Trace) -> Result<(), Failed> {
        let identity = self.pool.get(index);
        let mut stream = self.site.secured(&identity, trace).await?;
        let echo = async {
            let failed = |error| SimError::of_stream(&error, "bare server");
            stream.write(b"?").await.map_err(failed)?;
            let mut answer = bytes::BytesMut::with_capacity(1);
            match stream.read(&mut answer).await.map_err(failed)? {
                0 => Err(SimError::Protocol("the bare server left without an answer".to_owned())),
                _ => Ok(()),
            }
        };
        trace.step(Stage::Connect, self.site.patience.step, "echo", echo).await?;
        // The server only waits for the end; whether it is told in order makes no difference to it.
        let _ = stream.shut_down().await;
        Ok(())
    }
}
