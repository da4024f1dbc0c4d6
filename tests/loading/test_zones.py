"""``zones:``: providers and the keys that each of them wants."""

from __future__ import annotations

import jsonschema
import pytest

from runbook.errors import InvalidInput
from runbook.kinds import registry
from runbook.loading.schema import json_schema
from runbook.model.dns import PROVIDERS
from tests.loading.conftest import Load

HEAD = "runbook: a\nsecrets: {k: {env: K}}\n"
STEPS = "steps: [{id: a, kind: shell, with: {command: 'true'}}]\n"

GOOD = {
    "rfc2136": "{servers: ns1.shop.example, key: k}",
    "powerdns": "{provider: powerdns, endpoint: 'http://127.0.0.1:8081', key: k}",
    "route53": "{provider: route53, zone_id: Z1}",
    "cloudflare": "{provider: cloudflare, key: k, zone_id: abc}",
    "octodns": "{provider: octodns, class: octodns_x.Provider, options: {a: 1}, keys: {token: k}}",
    "file": "{provider: file, file: shop.zone}",
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_loads(load: Load, provider: str) -> None:
    text = f"{HEAD}zones: {{shop.example: {GOOD[provider]}}}\n{STEPS}"
    [zone] = load(text, files={"shop.zone": ""}).zones
    assert zone.provider == provider
    assert bool(zone.caution) == (PROVIDERS[provider].cas == "read-check")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{provider: powerdsn}", "did you mean `powerdns`?"),
        ("{provider: powerdns, key: k}", "`endpoint` is missing in zone"),
        ("{provider: powerdns, endpoint: 'http://x'}", "`key` is missing in zone"),
        ("{provider: powerdns, endpoint: 'x:8081', key: k}", "`endpoint` wants the URL"),
        ("{provider: cloudflare}", "`key` is missing in zone"),
        ("{provider: file}", "`file` is missing in zone"),
        ("{zone_id: Z1}", "`zone_id` means nothing with provider rfc2136"),
        ("{provider: file, file: a, endpoint: 'http://x'}", "`endpoint` means nothing"),
        ("{provider: route53, key: q}", "names the secret `q`"),
        ("{provider: octodns}", "`class` is missing in zone"),
        ("{provider: octodns, class: Provider}", "`class` wants a class with its module"),
        ("{provider: octodns, class: a.B, key: k}", "keys: {token: NAME_OF_THE_SECRET}"),
        ("{provider: octodns, class: a.B, keys: {token: q}}", "`token` names the secret `q`"),
        ("{provider: octodns, class: a.B, keys: {token: 1}}", "wants the name of a secret"),
        ("{provider: octodns, class: a.B, keys: {t: k}, options: {t: 1}}", "in `options` as well"),
        ("{provider: octodns, class: a.B, options: {t: '{{ secrets.k }}'}}", "keys: {t: k}"),
        ("{provider: route53, class: a.B}", "`class` means nothing with provider route53"),
        ("{provider: file, file: a, keys: {a: k}}", "`keys` means nothing with provider file"),
        ("{provider: route53, endpont: 'http://x'}", "did you mean `endpoint`?"),
    ],
)
def test_what_is_missing_or_means_nothing_is_said(load: Load, text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(f"{HEAD}zones: {{shop.example: {text}}}\n{STEPS}")
    assert words in caught.value.render()


def test_the_schema_knows_the_providers() -> None:
    schema = json_schema(registry())
    book = {
        "runbook": "a", "steps": [{"id": "a", "kind": "shell", "with": {"command": "x"}}],
        "zones": {"a.example": {"provider": "cloudflare", "endpoint": "u", "zone_id": "z"}},
    }
    jsonschema.validate(book, schema)
    book["zones"] = {"a.example": {"provider": "pigeon"}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(book, schema)


def test_views_of_one_zone(load: Load) -> None:
    one, other = load(
        f"{HEAD}zones: {{Shop.Example: {{servers: ns1}}, "
        f"Shop.Example.@Inside: {{servers: ns1, key: k}}}}\n{STEPS}"
    ).zones
    assert (one.name, one.called, one.question_key) == ("shop.example.", "shop.example.", None)
    assert (other.name, other.called) == ("shop.example.", "shop.example@inside")
    assert other.question_key == "k"


@pytest.mark.parametrize(
    ("zones", "words"),
    [
        ("{a.example: {servers: ns1}, a.example@x: {servers: [ns1, ns2]}}", "nothing tells a.ex"),
        ("{a.example@x: {key: k}, a.example@y: {key: k}}", "give each view its own servers, key"),
        ("{a.example@x: {}, A.example.@X: {key: k}}", "a.example@x stands here a second time"),
        ("{'a.example@': {}}", "`a.example@` is not the name of a zone"),
        ("{'a.example@x.y': {}}", "is not the name of a zone"),
    ],
)
def test_views_that_nothing_tells_apart_are_refused(load: Load, zones: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(f"{HEAD}zones: {zones}\n{STEPS}")
    assert words in caught.value.render()
