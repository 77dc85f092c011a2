//! The metrics endpoint: the least of HTTP/1.1 (RFC 9112) that a scrape needs. One
//! request a connection, GET or HEAD of `/metrics`; whatever else comes is refused,
//! and nothing can be kept waiting by it: few connections, a small head, little time.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::listener::{BindError, Trouble, bind};
use crate::config::MetricsListen;
use crate::edge::{Clock, Tasks};
use crate::metrics::Exposition;

/// Bytes of a request's head.
const MAX_HEAD: usize = 8 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// From accept to the last byte of the answer.
const TIME: Duration = Duration::from_secs(2);
/// Connections at once; others wait in the kernel. Who opens one after the other and says
/// nothing must not keep a scrape out for longer than it waits.
const CONNECTIONS: usize = 64;
/// Pause after the kernel had no descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound socket of the metrics endpoint.
pub struct MetricsListener(Socket);

enum Socket {
    /// Its file goes when this does.
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(_, path) => path.display().fmt(f),
            Self::Tcp(socket) => match socket.local_addr() {
                Ok(address) => address.fmt(f),
                Err(error) => error.fmt(f),
            },
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Socket {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(socket, _) => Box::new(socket.accept().await?.0),
            Self::Tcp(socket) => Box::new(socket.accept().await?.0),
        })
    }
}

impl MetricsListener {
    /// Binds the endpoint's socket, where one is wanted.
    ///
    /// # Errors
    /// [`BindError`], which names the socket.
    pub async fn bind(listen: Option<&MetricsListen>) -> Result<Option<Self>, BindError> {
        let Some(listen) = listen else { return Ok(None) };
        let socket = match listen {
            MetricsListen::Unix(config) => Socket::Unix(bind(config)?, config.socket.clone()),
            MetricsListen::Tcp(address) => Socket::Tcp(bind_tcp(*address).await?),
        };
        Ok(Some(Self(socket)))
    }

    /// Answers scrapes until `stop`.
    pub async fn serve(self, exposition: Arc<Exposition>, clock: Clock, stop: CancellationToken) {
        let (tasks, places) = (Tasks::default(), Arc::new(Semaphore::new(CONNECTIONS)));
        let mut trouble = Trouble::default();
        tracing::info!(endpoint = "metrics", socket = %self.0, "listening");
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.0.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    if trouble.tell(clock.elapsed()) {
                        tracing::warn!(%error, "connections for metrics can't be accepted; trying again");
                    }
                    clock.sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if trouble.over() {
                tracing::info!("connections for metrics can be accepted again");
            }
            let (exposition, clock, stop) = (Arc::clone(&exposition), clock.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = clock.sleep(TIME) => {}
                    // A scraper that went away is none of ours to mend.
                    _ = answer(stream, &exposition) => {}
                }
                drop(place);
            });
        }
    }
}

async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| BindError::Address { address, error })
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// The metrics.
    Metrics {
        /// Whether they are to follow the head of the answer.
        body: bool,
    },
    /// Status line and what to do, and the methods that would be right.
    Refused(&'static str, &'static str),
}

async fn answer(mut stream: Box<dyn Stream>, exposition: &Exposition) -> io::Result<()> {
    let Some(asked) = read_head(&mut stream).await? else { return Ok(()) };
    let reply = match asked {
        Asked::Metrics { body } => ok(&exposition.render().await, body),
        Asked::Refused(status, what) => refusal(status, what),
    };
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads a request's head; none where the peer ends before it is whole.
async fn read_head(stream: &mut Box<dyn Stream>) -> io::Result<Option<Asked>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if let Some(asked) = Asked::read(&head) {
            return Ok(Some(asked));
        }
        if stream.take((MAX_HEAD - head.len()) as u64).read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
}

impl Asked {
    /// What the head asks for; none where it isn't whole yet, which it never is for long:
    /// 8 KiB are answered, whatever they are.
    #[must_use]
    pub fn read(head: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => return None,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Some(Self::Refused(
                    "431 Request Header Fields Too Large",
                    "the request's head is too large",
                ));
            }
            Err(_) => return Some(Self::Refused("400 Bad Request", "this is not HTTP/1.1")),
        }
        let path = request.path.unwrap_or_default();
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        Some(match (request.method.unwrap_or_default(), path) {
            ("GET", "/metrics") => Self::Metrics { body: true },
            ("HEAD", "/metrics") => Self::Metrics { body: false },
            (_, "/metrics") => Self::Refused("405 Method Not Allowed", "only GET and HEAD"),
            _ => Self::Refused("404 Not Found", "there is only /metrics"),
        })
    }
}

fn ok(text: &str, body: bool) -> String {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    if body { head + text } else { head }
}

fn refusal(status: &str, what: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nAllow: GET, HEAD\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{what}\n",
        what.len() + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(head: &[u8]) -> &'static str {
        match Asked::read(head) {
            Some(Asked::Refused(status, _)) => &status[..3],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_metrics_can_be_got() {
        let body = |body| Some(Asked::Metrics { body });
        assert_eq!(Asked::read(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), body(true));
        assert_eq!(Asked::read(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n"), body(true));
        assert_eq!(Asked::read(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), body(false));
        assert_eq!(refused(b"POST /metrics HTTP/1.1\r\n\r\n"), "405");
        for path in ["/", "/metrics/", "/metricsx", "//metrics", "/%6detrics", "http://x/metrics", "*"] {
            assert_eq!(refused(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()), "404", "{path}");
        }
    }

    #[test]
    fn what_is_not_http_or_too_large_is_refused() {
        for bad in [
            &b"\0"[..],
            b"GET\r\n\r\n",
            b"GET /metrics HTTP/2.0\r\n\r\n",
            b"G\xc3T / HTTP/1.1\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nA\0: b\r\n\r\n",
        ] {
            assert_eq!(refused(bad), "400", "{}", bad.escape_ascii());
        }
        let long = format!("GET /metrics HTTP/1.1\r\nA: {}", "a".repeat(MAX_HEAD));
        assert_eq!(refused(&long.as_bytes()[..MAX_HEAD]), "431");
        assert_eq!(Asked::read(&long.as_bytes()[..MAX_HEAD - 1]), None);
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(refused(many.as_bytes()), "431");
    }

    #[test]
    fn a_head_that_is_not_whole_is_waited_for() {
        let whole = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(Asked::read(&whole[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_head_says_how_long_its_body_is() {
        assert!(ok("abc\n", true).ends_with("Content-Length: 4\r\nConnection: close\r\n\r\nabc\n"));
        assert!(ok("abc\n", false).ends_with("Connection: close\r\n\r\n"));
        assert!(
            refusal("404 Not Found", "no").ends_with("Content-Length: 3\r\nConnection: close\r\n\r\nno\n")
        );
    }
}
