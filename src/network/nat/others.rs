//! Rules that are not ours: another firewall's chain which drops what it doesn't know drops our packets, too, whatever our rules say.
//!
//! See it: `nft list chains`, `iptables -S FORWARD`. Read: nft(8) "CHAINS": a packet has to be accepted by all of them.

use super::super::nft::look::{self, Chain};
use super::super::nft::{self, NF_ACCEPT, Place};
use crate::error::Result;

/// Chains of others that drop forwarded packets which they don't know, whatever our rules say: `ip filter FORWARD`.
///
/// # Errors
/// Whatever the kernel answers.
pub fn dropping_chains() -> Result<Vec<String>> {
    Ok(look::chains(&*nft::open()?)?.iter().filter(|chain| drops_forwarded(chain)).map(Chain::name).collect())
}

/// firewalld's policy is to accept, and its last rule rejects.
fn drops_forwarded(chain: &Chain) -> bool {
    chain.hook == Some(Place::Forward as u32) && (chain.policy != Some(NF_ACCEPT) || chain.table == "firewalld")
}

/// What somebody has to be told before packets of these bridges get through: one line for each, and each chain of others that drops them and
/// has no rule about it, with what to type.
///
/// # Errors
/// Whatever the kernel answers.
pub fn warnings(links: &[String]) -> Result<Vec<String>> {
    let socket = nft::open()?;
    let mut warnings = Vec::new();
    let chains = look::chains(&socket)?;
    for (chain, link) in chains.iter().filter(|chain| drops_forwarded(chain)).flat_map(|chain| links.iter().map(move |link| (chain, link.as_str()))) {
        let family = match chain.family {
            "inet" => nft::INET,
            "ip6" => nft::IPV6,
            _ => nft::IPV4,
        };
        // A rule for all bridges of ours is written og-* or og-+.
        let beginning = if link.starts_with("og-") { "og-" } else { link };
        if !look::names_a_link(&socket, family, &chain.table, beginning)? {
            let all = if link.starts_with("og-") { "og-*" } else { link };
            let name = chain.name();
            warnings.push(format!(
                "{name} drops what goes through this host, so that {link} reaches nothing outside; to let it pass: {}",
                remedy(&name, &[all])
            ));
        }
    }
    Ok(warnings)
}

/// The filters in this network namespace that look at packets for its own programs (`input`) or from them (`output`), ours aside.
///
/// # Errors
/// Whatever the kernel answers.
pub fn filters(input: bool) -> Result<Vec<String>> {
    // linux/netfilter.h: NF_INET_LOCAL_IN.
    let hook = if input { 1 } else { Place::Output as u32 };
    let is_meant = |chain: &Chain| chain.hook == Some(hook) && chain.kind == "filter" && !chain.table.starts_with("onggi");
    Ok(look::chains(&*nft::open()?)?.iter().filter(|chain| is_meant(chain)).map(Chain::name).collect())
}

/// What to type so that such a chain lets the packets of these bridges pass; a link may end in `*`.
pub fn remedy(chain: &str, links: &[&str]) -> String {
    let has_docker_user = nft::open().and_then(|socket| look::chains(&socket)).is_ok_and(|all| all.iter().any(|chain| chain.chain == "DOCKER-USER"));
    lines(chain, links, has_docker_user)
}

fn lines(chain: &str, links: &[&str], has_docker_user: bool) -> String {
    let (table, last) = chain.rsplit_once(' ').unwrap_or(("", chain));
    let each = |line: &dyn Fn(&str) -> String| links.iter().map(|link| line(link)).collect::<Vec<_>>().join(" && ");
    match table {
        "inet firewalld" => {
            let zone = each(&|link| format!("firewall-cmd --permanent --zone=trusted --add-interface={}", link.replace('*', "+")));
            format!("{zone} && firewall-cmd --reload")
        }
        "ip filter" | "ip6 filter" if last == "FORWARD" => {
            let program = if table == "ip filter" { "iptables" } else { "ip6tables" };
            // Docker keeps that chain for others, and makes the rest of its rules anew at each start.
            let chain = if has_docker_user { "DOCKER-USER" } else { "FORWARD" };
            each(&|link| {
                let link = link.replace('*', "+");
                format!("{program} -I {chain} -i {link} -j ACCEPT && {program} -I {chain} -o {link} -j ACCEPT")
            })
        }
        _ => each(&|link| format!("nft insert rule {chain} iifname \"{link}\" accept && nft insert rule {chain} oifname \"{link}\" accept")),
    }
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn each_firewall_gets_its_own_words() {
        let told = lines("ip filter FORWARD", &["onggi0", "og-*"], true);
        assert!(told.starts_with("iptables -I DOCKER-USER -i onggi0 -j ACCEPT && ") && told.contains("-o og-+ -j ACCEPT"), "{told}");
        assert!(lines("ip6 filter FORWARD", &["onggi0"], false).starts_with("ip6tables -I FORWARD -i onggi0"));
        let told = lines("inet firewalld filter_FORWARD", &["og-*"], false);
        assert_eq!(told, "firewall-cmd --permanent --zone=trusted --add-interface=og-+ && firewall-cmd --reload");
        let told = lines("inet mine forward", &["onggi0"], false);
        assert_eq!(
            told,
            "nft insert rule inet mine forward iifname \"onggi0\" accept && nft insert rule inet mine forward oifname \"onggi0\" accept"
        );
    }
}
