//! What is turned away before any door looks at it: what a browser, a proxy or a program that was
//! tricked into asking would send, and our clients never do.

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Version, header};

/// Where requests to us are addressed.
#[derive(Clone, Debug)]
pub(super) enum Hosts {
    /// The one address that our child was told.
    Exactly(String),
    /// Behind a socket, which no browser reaches: a relay of any port, or a client that has to name
    /// something (azd names `azd-auth`).
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no sockets"))]
    BehindSocket,
}

/// Names that a client of a socket gives; a page that rebinds its name has another one.
const SOCKET_HOSTS: [&str; 3] = ["127.0.0.1", "azd-auth", "localhost"];

/// Headers of browsers and of whoever forwards for others. One that ends with `*` is a beginning.
const FOREIGN: [&str; 24] = [
    "access-control-request-*",
    "cdn-loop",
    "cf-*",
    "client-ip",
    "cookie",
    "fastly-*",
    "forwarded",
    "max-forwards",
    "origin",
    "proxy-*",
    "referer",
    "sec-*",
    "true-client-ip",
    "upgrade",
    "upgrade-insecure-requests",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-*",
    "x-forwarded*",
    "x-http-method*",
    "x-original-*",
    "x-real-ip",
    "x-rewrite-url",
];

/// Node's own `fetch` sends this header, and it alone of its kind; no browser does that.
const OF_NODE: &str = "sec-fetch-mode";

/// Why a request is turned away, for our log: whoever sent it is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stray {
    pub(super) status: StatusCode,
    pub(super) why: &'static str,
}

/// Lets a request through that one of our clients may have sent.
pub(super) fn check(parts: &Parts, hosts: &Hosts) -> Result<(), Stray> {
    let stray = |status, why| Err(Stray { status, why });
    if parts.version != Version::HTTP_11 && parts.version != Version::HTTP_10 {
        return stray(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "another version of HTTP");
    }
    if parts.uri.scheme().is_some() || parts.uri.authority().is_some() {
        return stray(StatusCode::BAD_REQUEST, "a request meant for a proxy");
    }
    if parts.method == Method::GET && has_body(&parts.headers) {
        return stray(StatusCode::BAD_REQUEST, "a body where none belongs");
    }
    if !hosts.have(&parts.headers) {
        return stray(StatusCode::FORBIDDEN, "another host's name");
    }
    if let Some(foreign) = parts.headers.keys().find(|name| is_foreign(name.as_str())) {
        tracing::debug!(header = %foreign, "a header of browsers or proxies");
        return stray(StatusCode::FORBIDDEN, "a header of browsers or proxies");
    }
    Ok(())
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0")
}

fn is_foreign(name: &str) -> bool {
    name != OF_NODE
        && FOREIGN.iter().any(|foreign| match foreign.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *foreign,
        })
}

impl Hosts {
    fn have(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (given.next(), given.next()) else { return false };
        match self {
            Self::Exactly(ours) => host == ours.as_str(),
            Self::BehindSocket => host.to_str().is_ok_and(|host| {
                let (name, port) = host.split_once(':').unwrap_or((host, "0"));
                SOCKET_HOSTS.contains(&name) && port.parse::<u16>().is_ok()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue, Request};

    use super::*;

    fn checked(uri: &str, headers: &[(&str, &str)]) -> Result<(), Stray> {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        check(&request.into_parts().0, &Hosts::Exactly("127.0.0.1:4000".to_owned()))
    }

    #[test]
    fn what_our_clients_send_is_let_through() {
        let ours = ("host", "127.0.0.1:4000");
        let also = [
            ("accept", "*/*"),
            ("authorization", "Bearer x"),
            ("connection", "keep-alive"),
            ("metadata", "true"),
            ("sec-fetch-mode", "cors"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-ms-client-request-id", "1"),
        ];
        checked("/msi/token", &[ours]).unwrap();
        checked("/msi/token", &[&[ours], &also[..]].concat()).unwrap();
    }

    #[test]
    fn what_a_browser_or_a_proxy_adds_is_turned_away() {
        let ours = ("host", "127.0.0.1:4000");
        for name in [
            "origin",
            "referer",
            "cookie",
            "sec-fetch-site",
            "sec-fetch-dest",
            "sec-ch-ua",
            "sec-websocket-key",
            "forwarded",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded",
            "x-real-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "proxy-connection",
            "proxy-authorization",
            "upgrade",
            "x-original-url",
            "x-http-method-override",
            "access-control-request-method",
        ] {
            for value in ["", "null", "127.0.0.1"] {
                let refused = checked("/msi/token", &[ours, (name, value)]).unwrap_err();
                assert_eq!(refused.status, StatusCode::FORBIDDEN, "{name}");
            }
        }
    }

    #[test]
    fn the_host_is_the_one_that_the_child_was_told() {
        for hosts in [
            &[][..],
            &["localhost:4000"],
            &["127.0.0.1"],
            &["127.0.0.1:4001"],
            &["127.0.0.1:4000."],
            &["127.0.0.1:4000", "127.0.0.1:4000"],
            &["evil.example:4000"],
            &["127.0.0.1.nip.io:4000"],
            &["[::1]:4000"],
            &["0.0.0.0:4000"],
            &["user@127.0.0.1:4000"],
            &[""],
        ] {
            let headers: Vec<_> = hosts.iter().map(|&host| ("host", host)).collect();
            assert_eq!(checked("/", &headers).unwrap_err().why, "another host's name", "{hosts:?}");
        }
    }

    #[test]
    fn behind_a_socket_any_port_will_do_but_no_other_name() {
        let has = |host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
            Hosts::BehindSocket.have(&headers)
        };
        for host in ["127.0.0.1:1", "127.0.0.1:65535", "localhost", "azd-auth"] {
            assert!(has(host), "{host}");
        }
        for host in ["evil.example", "evil.example:80", "127.0.0.1:99999", "127.0.0.1:", "127.0.0.1:1:2", ""]
        {
            assert!(!has(host), "{host}");
        }
    }

    #[test]
    fn a_request_meant_for_a_proxy_is_turned_away() {
        let refused = checked("http://127.0.0.1:4000/msi/token", &[("host", "127.0.0.1:4000")]);
        assert_eq!(refused.unwrap_err().why, "a request meant for a proxy");
    }
}
