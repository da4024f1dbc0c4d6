"""Zones as they are found in the field, for the tests of DNS in the lab. TTLs are seconds."""

from __future__ import annotations

from tests.lab.names import PRIMARY, SECONDARY, Served

OLD, NEW = "198.51.100.10", "203.0.113.10"
OLD6, NEW6 = "2001:db8:1::10", "2001:db8:2::10"

APEX = f"""\
$TTL 4
@     IN SOA ns1 hostmaster 1 30 2 3600 2
@     IN NS  ns1
@     IN NS  ns2
ns1   IN A   {PRIMARY}
ns2   IN A   {SECONDARY}
"""

RICH = rf"""$ORIGIN shop.example.
{APEX}
@               IN A     {OLD}
@               IN AAAA  {OLD6}
www             IN CNAME edge
edge          3 IN CNAME Host
Host            IN A     {OLD}
host            IN AAAA  {OLD6}
host            IN HTTPS 1 . alpn="h2,h3" ipv4hint={OLD},192.0.2.99 ipv6hint={OLD6}
_8443._https.host IN SVCB 1 host alpn="h2" port=8443 ipv4hint={OLD}
host            IN SSHFP 4 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789
_443._tcp.host  IN TLSA  3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
*.tenant        IN A     {OLD}
*.alias         IN CNAME host
old             IN DNAME alias
@               IN MX    10 mail
@               IN MX    20 mx.elsewhere.test.
mail            IN A     {OLD}
mail            IN AAAA  {OLD6}
_imap._tcp      IN SRV   0 1 143 mail
k1._domainkey   IN TXT   "v=DKIM1; k=rsa; p=MIGf"
@               IN TXT   "v=spf1 ip4:{OLD} ip6:{OLD6} a:host mx include:_spf.shop.example -all"
@               IN TXT   "site-verification=1"
_spf            IN TXT   ("v=spf1 ip4:192.0.2.1 " "ip4:{OLD}/32 -all")
note            IN TXT   "our web server is {OLD}"
sip             IN NAPTR 10 100 "S" "SIP+D2U" "" _sip._udp
_sip._udp       IN SRV   0 5 5060 host
_ftp._tcp       IN URI   10 1 "ftp://host.shop.example/public"
@               IN CAA   0 issue "ca.test"
@               IN CAA   0 iodef "https://host.shop.example/caa"
rev             IN PTR   host
sub             IN NS    ns.sub
ns.sub          IN A     {OLD}
dead.sub        IN A     {OLD}
low           1 IN A     {OLD}
mixed         2 IN A     {OLD}
mixed         2 IN A     192.0.2.88
Odd_Name        IN A     {OLD}
first\046last   IN A     {OLD}
two\032words    IN A     {OLD}
semi\;colon     IN TXT   "v=spf1 ip4:{OLD} exp=a\"b\\c\233\;.test -all"
other           IN A     192.0.2.77
"""
"""Everything in it that can lead to an address, and something of what cannot."""

BIG = "$ORIGIN big.example.\n" + APEX + "".join(
    f"many IN A 10.0.0.{n}\n" for n in range(90)
) + f"many IN A {OLD}\n" + "".join(
    f'long IN TXT "part {n} {"x" * 200}"\n' for n in range(40)
) + "".join(
    f"host{n} IN A {OLD if n < 300 else '192.0.2.77'}\nhost{n} IN TXT \"number {n}\"\n"
    for n in range(1500)
)
"""Sets that fit into no UDP packet (BIND allows no more than 100 records of a set), a transfer of
many messages, 301 sets that hold the old address, 1200 that hold another."""

SMALL = APEX.replace("$TTL 4", "$TTL 2") + f"""\
@    IN A    {OLD}
@    IN AAAA {OLD6}
www  IN CNAME {{}}.
mail IN A    {OLD}
@    IN MX   10 mail
@    IN TXT  "v=spf1 ip4:{OLD} -all"
"""
INSIDE_OLD, INSIDE_NEW = "10.1.0.10", "10.2.0.10"


def small(zone: str) -> str:
    return f"$ORIGIN {zone}.\n" + SMALL.format(zone)


MORE = (
    Served("big.example", BIG),
    Served("signed.example", small("signed.example"), 'dnssec-policy "default";'),
    Served("inline.example", small("inline.example"),
           'dnssec-policy "default"; inline-signing yes;'),
    Served("split.example", small("split.example")),
    Served("split.example", small("split.example").replace(OLD, INSIDE_OLD), view="inside"),
)
"""Served beside RICH."""
