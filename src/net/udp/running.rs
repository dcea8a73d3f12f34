//! [`Running`]: a socket with its two threads, from binding to the last join.

use super::config::UdpConfig;
use super::core::Core;
use super::driver::Driver;
use super::reception::Reception;
use crate::error::VstpError;
use crate::net::clock;
use crate::net::meter::Source;
use crate::net::threads::Threads;
use crate::proto::datagram::AnswerLimit;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Owns the threads of a socket: dropping it closes the socket and joins them.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) driver: Arc<Driver>,
    threads: Threads,
}

impl Running {
    /// Binds a socket and starts its threads.
    pub(crate) fn start(
        addr: SocketAddr,
        mut config: UdpConfig,
        is_server: bool,
    ) -> Result<Self, VstpError> {
        config.validate()?;
        config.endpoint.accept_sessions = is_server;
        config.endpoint.features = config.pipeline.offer(&config.endpoint.features);
        if is_server && config.endpoint.answer_limit == AnswerLimit::Unlimited {
            config.endpoint.answer_limit = AnswerLimit::Times(3);
        }
        let sealed = config.sealed_sessions.clone().filter(|_| is_server);
        config.endpoint.sealed_only |= sealed.is_some() && !config.also_plaintext;
        let judge = config.judge.take().filter(|_| is_server);
        let recognises = judge.is_some();
        config.endpoint.auth_timeout = judge.as_ref().map(|judge| judge.timeout());
        let driver = Arc::new(Driver::new(addr, config)?);
        if let Some(judge) = judge {
            let weak = Arc::downgrade(&driver);
            let decide = Arc::new(move |client, decision| {
                if let Some(driver) = weak.upgrade() {
                    driver.with(|core| core.decide(clock::now(), client, decision));
                }
            });
            driver.lock().reception = Some(Reception::new(judge, decide));
        }
        if let Some(sealed) = sealed {
            sealed.attach(&driver, recognises)?;
        }
        let source: Weak<dyn Source> = Arc::<Driver>::downgrade(&driver);
        driver.meter().attach(source);
        let running = Self {
            driver,
            threads: Threads::default(),
        };
        running.spawn("vstp-udp-recv", Driver::receive_loop)?;
        running.spawn("vstp-udp-timer", Driver::timer_loop)?;
        Ok(running)
    }

    fn spawn(&self, name: &str, body: fn(&Driver)) -> Result<(), VstpError> {
        let driver = Arc::clone(&self.driver);
        self.threads.start(name, move || body(&driver))
    }

    /// Says goodbye in all sessions, waits for their ends until `until`, closes the socket and joins
    /// the threads. A second call finds nothing to do.
    pub(crate) fn close(&self, until: Instant) {
        let driver = &self.driver;
        driver.with(|core| {
            for peer in core.endpoint.session_addrs() {
                core.endpoint.close(clock::now(), peer);
            }
        });
        let all_ended = |core: &mut Core| core.endpoint.session_addrs().is_empty().then_some(());
        // Those that did not answer end by their own deadline.
        let _ = driver.wait_for(Some(until), all_ended);
        driver.close();
        self.threads.join();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close(clock::now());
    }
}
