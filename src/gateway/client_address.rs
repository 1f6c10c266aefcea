//! Which address a request comes from, also where proxies stand between.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, header};
use clap::ValueEnum;
use ipnet::IpNet;

/// Whom a socket leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub IpAddr);

/// Who asks: the peer, or whom it asks for if it is a proxy of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub IpAddr);

/// Addresses of proxies whose word is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyNet(IpNet);

/// The text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address or a network is wanted, as in 10.0.0.0/8 or 2001:db8::/32")]
pub struct NoNetwork;

impl FromStr for ProxyNet {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        text.parse().map(Self).map_err(|_error| NoNetwork)
    }
}

/// In which header proxies say whom they ask for. One only: a client can send the other, and a proxy that does not
/// know it passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies whose word is taken.
#[derive(Clone, Debug)]
pub(super) struct Proxies {
    trusted: Arc<[ProxyNet]>,
    header: ProxyHeader,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Proxies {
    /// These.
    pub(super) fn new(trusted: &[ProxyNet], header: ProxyHeader) -> Self {
        Self { trusted: trusted.into(), header }
    }

    /// Who asks. Each proxy adds whom it was asked by at the right; what is left of the first that is none of ours
    /// can be anybody's invention.
    pub(super) fn client(&self, Peer(peer): Peer, headers: &HeaderMap) -> Client {
        let mut client = peer;
        if !self.trusts(client) {
            return Client(client);
        }
        let name = match self.header {
            ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
            ProxyHeader::Forwarded => header::FORWARDED,
        };
        let lines: Vec<_> = headers.get_all(name).into_iter().collect();
        for line in lines.into_iter().rev() {
            let line = line.to_str().ok();
            let hops = match self.header {
                ProxyHeader::XForwardedFor => line.map(x_forwarded_for),
                ProxyHeader::Forwarded => line.and_then(forwarded),
            };
            // Whoever said what cannot be read is as far as we can see.
            let Some(hops) = hops else { return Client(client) };
            for hop in hops.into_iter().rev() {
                let Some(hop) = hop else { return Client(client) };
                client = hop;
                if !self.trusts(client) {
                    return Client(client);
                }
            }
        }
        Client(client)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|ProxyNet(net)| net.contains(&address))
    }
}

/// What each proxy was asked by; nothing where that is no address.
type Hops = Vec<Option<IpAddr>>;

fn x_forwarded_for(line: &str) -> Hops {
    line.split(',').map(|hop| node(hop.trim())).collect()
}

/// Nothing if it is not of the grammar: a quote that is not closed would hide what was added after it.
fn forwarded(line: &str) -> Option<Hops> {
    split(line, ',')?.into_iter().map(forwarded_element).collect()
}

fn forwarded_element(element: &str) -> Option<Option<IpAddr>> {
    let mut found = None;
    for pair in split(element, ';')? {
        let Some((name, value)) = pair.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("for") {
            let value = value.trim();
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            found = node(unquoted.unwrap_or(value));
        }
    }
    Some(found)
}

/// Splits where no quotes are. Nothing if a quote is not closed.
fn split(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (index, char) in text.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if char == at && !is_quoted => {
                parts.push(&text[start..index]);
                start = index + char.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!is_quoted).then_some(parts)
}

/// An address, with a port or without.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ProxyHeader, peer: &str, lines: &[&str]) -> String {
        let trusted =
            ["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.9"].map(|net| net.parse().unwrap());
        let mut headers = HeaderMap::new();
        let name = match header {
            ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
            ProxyHeader::Forwarded => header::FORWARDED,
        };
        for line in lines {
            headers.append(&name, line.parse().unwrap());
        }
        let peer = Peer(peer.parse().unwrap());
        Proxies::new(&trusted, header).client(peer, &headers).0.to_string()
    }

    fn x(peer: &str, lines: &[&str]) -> String {
        client(ProxyHeader::XForwardedFor, peer, lines)
    }

    fn f(lines: &[&str]) -> String {
        client(ProxyHeader::Forwarded, "10.1.1.1", lines)
    }

    #[test]
    fn the_first_from_the_right_that_is_no_proxy_of_ours_is_the_client() {
        assert_eq!(x("10.1.1.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(x("10.1.1.1", &["1.2.3.4, 203.0.113.7, 10.2.2.2"]), "203.0.113.7");
        assert_eq!(x("10.1.1.1", &["1.2.3.4", "203.0.113.7:4711", "192.0.2.9"]), "203.0.113.7");
        assert_eq!(x("2001:db8:1::5", &["[2001:db8:9::1]:80"]), "2001:db8:9::1");
        assert_eq!(x("10.1.1.1", &["2001:db8:9::1"]), "2001:db8:9::1");
        assert_eq!(x("10.1.1.1", &["::ffff:203.0.113.7"]), "203.0.113.7");
        assert_eq!(x("10.1.1.1", &["10.3.3.3, 10.2.2.2"]), "10.3.3.3");
        assert_eq!(x("10.1.1.1", &[]), "10.1.1.1");
    }

    #[test]
    fn nobody_elses_word_is_taken() {
        assert_eq!(x("203.0.113.7", &["1.2.3.4"]), "203.0.113.7");
        assert_eq!(x("192.0.2.10", &["1.2.3.4"]), "192.0.2.10");
        // The proxy is as far as we can see: what it passes on cannot be read.
        for unreadable in
            ["", "unknown", "1.2.3.4, _hidden", "1.2.3.4,", "1.2.3.4, 999.1.1.1", "\u{e9}"]
        {
            assert_eq!(x("10.1.1.1", &[unreadable]), "10.1.1.1", "{unreadable}");
        }
        assert_eq!(x("10.1.1.1", &["1.2.3.4, nonsense, 10.2.2.2"]), "10.2.2.2");
    }

    #[test]
    fn the_header_of_rfc_7239_is_read() {
        assert_eq!(f(&["for=203.0.113.7;proto=https;by=10.1.1.1"]), "203.0.113.7");
        assert_eq!(f(&["for=1.2.3.4, For=\"[2001:db8:9::1]:4711\"; proto=http"]), "2001:db8:9::1");
        assert_eq!(f(&["for=1.2.3.4", "for=\"203.0.113.7:80\",for=10.9.9.9"]), "203.0.113.7");
        // A client that leaves a quote open, or puts commas into one, gains nothing.
        assert_eq!(f(&["for=\"1.2.3.4, for=203.0.113.7"]), "10.1.1.1");
        assert_eq!(f(&["for=1.2.3.4;x=\"a,for=5.6.7.8\", for=203.0.113.7"]), "203.0.113.7");
        assert_eq!(f(&["for=1.2.3.4;x=\"\\\"\", for=203.0.113.7"]), "203.0.113.7");
        for unreadable in ["for=unknown", "proto=https", "for=", "for=_secret, for=\"_x\""] {
            assert_eq!(f(&[unreadable]), "10.1.1.1", "{unreadable}");
        }
    }

    #[test]
    fn only_the_header_that_was_chosen_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(header::FORWARDED, "for=1.2.3.4".parse().unwrap());
        let proxies = Proxies::new(&["10.0.0.0/8".parse().unwrap()], ProxyHeader::XForwardedFor);
        let Client(client) = proxies.client(Peer([10, 1, 1, 1].into()), &headers);
        assert_eq!(client.to_string(), "10.1.1.1");
        for bad in ["", "10.0.0.0/33", "proxy.example", "10.0.0"] {
            assert_eq!(bad.parse::<ProxyNet>(), Err(NoNetwork), "{bad}");
        }
    }
}
