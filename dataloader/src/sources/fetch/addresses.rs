//! Where a request may go. A URL out of a published list must not reach the machines behind this one's firewall, not
//! even by a name or a redirect that leads there: addresses are checked when a connection is made, for each connection.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

/// Looks up names for [`ureq`], within `timeout`; addresses that are not public are refused unless `allow_private`.
pub(super) struct Resolver {
    pub(super) timeout: Duration,
    pub(super) allow_private: bool,
}

impl ureq::Resolver for Resolver {
    fn resolve(&self, netloc: &str) -> Result<Vec<SocketAddr>> {
        let found = look_up(netloc, self.timeout)?;
        let refused = found.iter().map(|found| found.ip()).find(|ip| !self.allow_private && !is_public(*ip));
        match refused {
            // One name may have public and private addresses; which of them is used must not be left to chance.
            Some(ip) => Err(Error::new(ErrorKind::PermissionDenied, Private { netloc: netloc.into(), ip })),
            None => Ok(found),
        }
    }
}

/// The system's look-up knows no time-out, so it is left behind when it takes too long.
fn look_up(netloc: &str, timeout: Duration) -> Result<Vec<SocketAddr>> {
    let (tell, told) = mpsc::sync_channel(1);
    let name = netloc.to_string();
    std::thread::Builder::new().name("look-up".into()).spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = tell.send(name.to_socket_addrs().map(Iterator::collect));
    })?;
    let slow =
        |_| Error::new(ErrorKind::TimedOut, format!("no address of {netloc} within {} s", timeout.as_secs_f64()));
    told.recv_timeout(timeout).map_err(slow)?
}

/// A name that leads into a private network.
#[derive(Debug, thiserror::Error)]
#[error("{netloc} leads to {ip}, which is no public address; --allow-private-addresses lets it")]
pub(super) struct Private {
    netloc: String,
    ip: IpAddr,
}

/// Whether an address is one of the public internet (IANA's special-purpose registries, RFC 6890 and its successors).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let wide = matches!((a, b), (0 | 10 | 127 | 240.., _) | (100, 64..=127) | (172, 16..=31) | (198, 18..=19));
    let special = wide || matches!((a, b, c), (169, 254, _) | (192, 168, _) | (192, 0, 0));
    !special && !ip.is_multicast() && !ip.is_documentation()
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, .., y, z] = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b) {
        // Global unicast is 2000::/3. Of it, documentation, benchmarks, Teredo and 6to4 are not, or hold another
        // address.
        (0x2001, 0xdb8) | (0x2001, 0..=0x1ff) => false,
        (0x2002, high) => is_public_v4(v4(high, ip.segments()[2])),
        (0x2000..=0x3ffe, _) => true,
        // An IPv4 address in IPv6's clothes: mapped, or translated (64:ff9b::/96).
        (0x64, 0xff9b) if ip.segments()[2..6] == [0; 4] => is_public_v4(v4(y, z)),
        _ => ip.to_ipv4_mapped().is_some_and(is_public_v4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::Resolver as _;

    #[test]
    fn private_addresses_are_told_from_public_ones_in_every_spelling() {
        for public in
            ["93.184.216.34", "8.8.8.8", "172.32.0.1", "2606:2800:220:1::", "::ffff:8.8.8.8", "64:ff9b::808:808"]
        {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
        for private in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2001:db8::1",
            "2001:0:1::1",
        ] {
            assert!(!is_public(private.parse().expect("an address")), "{private}");
        }
    }

    #[test]
    fn a_name_of_this_machine_is_refused_unless_that_is_allowed() {
        let resolve = |netloc, allow_private| {
            Resolver { timeout: Duration::from_secs(20), allow_private }.resolve(netloc).map_err(|e| e.to_string())
        };
        for netloc in ["localhost:80", "127.0.0.1:80", "[::1]:80"] {
            let error = resolve(netloc, false).expect_err("private");
            assert!(error.contains("--allow-private-addresses"), "{error}");
        }
        assert!(resolve("127.0.0.1:80", true).is_ok());
    }
}
