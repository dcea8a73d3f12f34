//! [`VstpTcpServer`]: listens, and gives each connection a worker thread.
//!
//! ```text
//!  vstp-accept                          vstp-conn-N (from the pool, one per connection)
//!  place + handshake slot -> accept  -> TLS, HELLO/WELCOME -> slot free
//!  -> per-address check -> worker       run:    frame -> handler -> answer, until the end
//!                                       accept: hand the connection to whoever waits
//! ```
//!
//! The accept thread only accepts. A place is taken before `accept(2)`, so clients beyond the limit
//! wait in the system's backlog; it is given back when the connection is dropped.

use super::accept::{self, TcpAcceptor};
use super::addresses::Addresses;
use super::config::ServerConfig;
use super::handle::{ServerHandle, ServerShared};
use super::permits::Permit;
use super::reply::IntoReply;
use super::session::Session;
use super::worker;
use crate::error::{ClosedBy, TimeoutKind, VstpError};
use crate::net::addr::ToAddress;
use crate::net::clock;
use crate::net::tcp::establish;
use crate::net::tcp::keeper::Keeper;
use crate::net::tcp::VstpTcpConnection;
#[cfg(feature = "tls")]
use crate::net::tls::{TlsServerConfig, TlsSession};
use crate::wire::Frame;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use socket2::SockRef;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
