"""Calls a server through hvac, the Python client, as programs do: KV v2, tokens,
policies, leases, moving mounts. An assertion or an exception is a failure."""

import os
import time

import hvac
from hvac import exceptions


def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind:
        return
    raise AssertionError(f"{call} with {args} {kwargs} was not refused with {kind.__name__}")


def eventually(yes):
    for _ in range(1000):
        if yes():
            return
        time.sleep(0.02)
    raise AssertionError(f"still not: {yes}")


def gone(kind, call, *args):
    """Whether a call is refused: revoking is done soon after it is answered."""
    try:
        call(*args)
    except kind:
        return True
    return False


def server(c):
    assert c.sys.is_initialized() and not c.sys.is_sealed() and c.is_authenticated()
    health = c.sys.read_health_status(method="GET")
    assert health["initialized"] and not health["sealed"], health
    assert c.sys.read_seal_status()["sealed"] is False
    assert c.sys.read_leader_status()["ha_enabled"] is False
    assert "token/" in c.sys.list_auth_methods()["data"]


def kv2(c):
    c.sys.enable_secrets_engine("kv", path="app", options={"version": "2"})
    kv = c.secrets.kv.v2
    first = kv.create_or_update_secret("team/db", {"user": "u", "password": "p1"}, mount_point="app")
    assert first["data"]["version"] == 1
    kv.create_or_update_secret("team/db", {"user": "u", "password": "p2"}, cas=1, mount_point="app")
    refused(exceptions.InvalidRequest, kv.create_or_update_secret, "team/db", {"x": "y"}, cas=1, mount_point="app")
    kv.patch("team/db", {"extra": "e"}, mount_point="app")
    now = kv.read_secret_version("team/db", mount_point="app")
    assert now["data"]["data"] == {"user": "u", "password": "p2", "extra": "e"}, now
    assert now["data"]["metadata"]["version"] == 3
    old = kv.read_secret_version("team/db", version=1, mount_point="app")
    assert old["data"]["data"]["password"] == "p1"
    assert kv.list_secrets("team", mount_point="app")["data"]["keys"] == ["db"]
    kv.delete_latest_version_of_secret("team/db", mount_point="app")
    refused(exceptions.InvalidPath, kv.read_secret_version, "team/db", mount_point="app")
    kv.undelete_secret_versions("team/db", [3], mount_point="app")
    kv.destroy_secret_versions("team/db", [1], mount_point="app")
    kv.update_metadata("team/db", max_versions=5, mount_point="app")
    # Debian's hvac does not know custom metadata by name.
    c.write("app/metadata/team/db", custom_metadata={"owner": "me"})
    meta = kv.read_secret_metadata("team/db", mount_point="app")["data"]
    assert meta["max_versions"] == 5 and meta["versions"]["1"]["destroyed"]
    assert meta["custom_metadata"] == {"owner": "me"}, meta
    kv.configure(max_versions=20, mount_point="app")
    assert kv.read_configuration(mount_point="app")["data"]["max_versions"] == 20
    kv.delete_metadata_and_all_versions("team/db", mount_point="app")
    refused(exceptions.InvalidPath, kv.read_secret_metadata, "team/db", mount_point="app")


def kv1(c):
    c.sys.enable_secrets_engine("kv", path="plain", options={"version": "1"})
    c.secrets.kv.v1.create_or_update_secret("a", {"k": "v"}, mount_point="plain")
    assert c.secrets.kv.v1.read_secret("a", mount_point="plain")["data"] == {"k": "v"}
    c.secrets.kv.v1.delete_secret("a", mount_point="plain")
    refused(exceptions.InvalidPath, c.secrets.kv.v1.read_secret, "a", mount_point="plain")


def policies(c):
    text = 'path "app/data/team/*" { capabilities = ["read"] }'
    c.sys.create_or_update_policy("reader", text)
    assert "reader" in c.sys.list_policies()["data"]["policies"]
    assert c.sys.read_policy("reader")["data"]["rules"] == text
    c.write("sys/policies/acl/reader", policy=text)
    assert c.read("sys/policies/acl/reader")["data"]["policy"] == text
    refused(exceptions.InvalidRequest, c.sys.create_or_update_policy, "broken", "path {")


def tokens(c):
    c.secrets.kv.v2.create_or_update_secret("team/db", {"password": "p"}, mount_point="app")
    made = c.auth.token.create(policies=["reader"], ttl="1h", meta={"who": "hvac"})["auth"]
    reader = hvac.Client(url=c.url, token=made["client_token"])
    me = reader.auth.token.lookup_self()["data"]
    assert me["policies"] == ["default", "reader"] and me["meta"] == {"who": "hvac"}, me
    assert reader.secrets.kv.v2.read_secret_version("team/db", mount_point="app")
    refused(exceptions.Forbidden, reader.secrets.kv.v2.create_or_update_secret, "team/db", {"a": "b"}, mount_point="app")
    refused(exceptions.Forbidden, reader.sys.list_policies)
    assert reader.auth.token.renew_self(increment="2h")["auth"]["lease_duration"] > 3600
    assert c.auth.token.lookup_accessor(made["accessor"])["data"]["meta"] == {"who": "hvac"}
    assert made["accessor"] in c.auth.token.list_accessors()["data"]["keys"]
    c.auth.token.create_or_update_role("short", allowed_policies=["reader"], orphan=True, renewable=False)
    assert c.auth.token.read_role("short")["data"]["orphan"] is True
    assert c.auth.token.create(role_name="short", policies=["reader"], ttl="1m")["auth"]["orphan"]
    orphan = c.auth.token.create(policies=["reader"], ttl="1h", no_parent=True)["auth"]
    c.auth.token.revoke_accessor(orphan["accessor"])
    refused(exceptions.Forbidden, hvac.Client(url=c.url, token=orphan["client_token"]).auth.token.lookup_self)
    c.auth.token.revoke(made["client_token"])
    refused(exceptions.Forbidden, reader.auth.token.lookup_self)


def leases(c):
    host = os.environ["POSTGRES"]
    c.sys.enable_secrets_engine("database")
    db = c.secrets.database
    db.configure(
        "production",
        "postgresql-database-plugin",
        allowed_roles=["reader"],
        connection_url="postgresql://{{username}}:{{password}}@" + host + "/postgres",
        username="postgres",
        password=os.environ["POSTGRES_PASSWORD"],
    )
    db.create_role(
        "reader",
        "production",
        ["""CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"""],
        default_ttl="1h",
        max_ttl="24h",
    )
    first = db.generate_credentials("reader")
    db.generate_credentials("reader")
    assert first["data"]["username"].startswith("v-") and first["lease_duration"] == 3600
    listed = c.sys.list_leases("database/creds/reader")["data"]["keys"]
    assert len(listed) == 2, listed
    assert c.sys.read_lease(first["lease_id"])["data"]["renewable"] is True
    assert c.sys.renew_lease(first["lease_id"], increment=7200)["lease_duration"] == 7200
    c.sys.revoke_lease(first["lease_id"])
    eventually(lambda: gone(exceptions.InvalidRequest, c.sys.read_lease, first["lease_id"]))
    c.sys.revoke_prefix("database/creds/reader")
    eventually(lambda: gone(exceptions.InvalidPath, c.sys.list_leases, "database/creds/reader"))


def wrapping(c):
    wrapped = c.auth.token.create(policies=["reader"], ttl="1h", wrap_ttl="1m")["wrap_info"]
    opened = c.sys.unwrap(wrapped["token"])
    assert opened["auth"]["client_token"]
    refused(exceptions.InvalidRequest, c.sys.unwrap, wrapped["token"])


def moving(c):
    c.sys.tune_mount_configuration("app", default_lease_ttl="1h", description="moved soon")
    assert c.sys.read_mount_configuration("app")["data"]["default_lease_ttl"] == 3600
    c.sys.move_backend("app", "moved")
    eventually(lambda: "moved/" in c.sys.list_mounted_secrets_engines()["data"])
    mounts = c.sys.list_mounted_secrets_engines()["data"]
    assert "moved/" in mounts and "app/" not in mounts, list(mounts)
    got = c.secrets.kv.v2.read_secret_version("team/db", mount_point="moved")
    assert got["data"]["data"] == {"password": "p"}
    refused(exceptions.InvalidPath, c.secrets.kv.v2.read_secret_version, "team/db", mount_point="app")
    c.sys.disable_secrets_engine("moved")
    assert "moved/" not in c.sys.list_mounted_secrets_engines()["data"]


def audit(c):
    path = os.path.join(os.environ["TMPDIR"], "hvac-audit.log")
    c.sys.enable_audit_device("file", options={"file_path": path}, path="py")
    assert "py/" in c.sys.list_enabled_audit_devices()["data"]
    assert c.sys.calculate_hash("py", "x")["data"]["hash"].startswith("hmac-sha256:")
    c.sys.disable_audit_device("py")


def main():
    c = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"])
    for part in (server, kv2, kv1, policies, tokens, leases, wrapping, moving, audit):
        part(c)
        print("ok", part.__name__)


main()
