package inprocess_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/route"
)

// exempt returns why a field is not in the table of updates, or "" if it must be.
func exempt(name, field string) string {
	switch name {
	case "sys/mounts/{path...}", "sys/auth/{path...}":
		switch field {
		case "type", "local", "seal_wrap", "external_entropy_access", "config", "plugin_name", "plugin_version":
			return "it is for enabling, and tune has no such field"
		case "options":
			return "the Go API sends null with every tune; the engine judges what is taken away: see " +
				"TestTuneJudgesOptions"
		}
		if name == "sys/auth/{path...}" {
			return "the same handler as sys/mounts"
		}
	case "auth/token/roles/{role}":
		switch field {
		case "period", "explicit_max_ttl", "bound_cidrs":
			return "the second name of a field"
		}
	case "aws/roles/{name}":
		switch field {
		case "arn", "policy":
			return "of roles before there were types: they are translated"
		}
	case "aws/creds/{name}", "aws/sts/{name}", "aws/config/rotate-root", "aws/rotate-role/{name}":
		return "handled as absent where it is empty"
	case "aws/static-roles/{name}":
		switch field {
		case "access_key", "secret_key", "replace_key":
			return "for a role that is new; handled as absent where it is empty"
		}
	case "database/config/{name}":
		switch field {
		case "verify_connection":
			return "of the write alone; null is true, the default: see TestConfigRefuses of engine/database"
		case "auth_type", "service_account_json":
			return "not implemented yet"
		case "self_managed":
			return "decides whether there is an administrator; cleared together with what replaces it"
		}
	case "database/static-roles/{name}":
		switch field {
		case "skip_import_rotation", "password", "self_managed_password":
			return "for a role that is new, without effect later"
		}
	case "patch rotation/keys/{name}":
		switch field {
		case "groups", "rollout", "notify":
			return "not implemented yet"
		case "current_key_id", "current_secret", "skip_import_rotation", "provider":
			return "of the write alone"
		}
	case "rotation/keys/{name}", "rotation/keys/{name}/rebind":
		return "the fields of PATCH; a write replaces, so that null is absent"
	case "kv2/data/{path...}", "patch kv2/data/{path...}":
		return "a document of the user's; cas null is 0, which never overwrites"
	case "sys/policies/password/{name}":
		return "replaced as a whole"
	}
	return ""
}

// pemOf returns a certificate and its key.
func pemOf() (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		panic(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func updates() map[string]update {
	all := map[string]update{}
	for _, part := range []map[string]update{updatesOfSys(), updatesOfKV(), updatesOfAWS(), updatesOfDatabase(),
		updatesOfRotation()} {
		for name, u := range part {
			all[name] = u
		}
	}
	return all
}

func updatesOfSys() map[string]update {
	return map[string]update{
		"sys/mounts/{path...}": {
			op: route.Write, mount: "kv", path: "sys/mounts/{m}/tune", read: "sys/mounts/{m}",
			over: []field{
				{name: "default_lease_ttl", value: "1h"}, {name: "max_lease_ttl", value: "2h"},
				{name: "force_no_cache", value: true},
				{name: "description", value: "a note"}, {name: "audit_non_hmac_request_keys", value: []string{"a"}},
				{name: "audit_non_hmac_response_keys", value: []string{"a"}},
				{name: "listing_visibility", value: "unauth"},
				{name: "passthrough_request_headers", value: []string{"x-a"}},
				{name: "allowed_response_headers", value: []string{"x-a"}},
				{name: "token_type", value: "batch"},
			},
		},
		"sys/auth/{path...}": {
			op: route.Write, path: "sys/auth/token/tune", read: "sys/auth/token",
			over: []field{{name: "default_lease_ttl", value: "1h"}, {name: "max_lease_ttl", value: "2h"}},
		},
		"sys/rotate/config": {
			op: route.Write, path: "sys/rotate/config",
			over: []field{{name: "enabled", value: false}, {name: "max_operations", value: 2_000_000},
				{name: "interval", value: "48h"}},
		},
		"auth/token/roles/{role}": {
			op: route.Write, path: "auth/token/roles/{m}",
			over: []field{
				{name: "allowed_policies", value: []string{"a"}},
				{name: "allowed_policies_glob", value: []string{"a*"}},
				{name: "disallowed_policies", value: []string{"a"}},
				{name: "disallowed_policies_glob", value: []string{"a*"}},
				{name: "allowed_entity_aliases", value: []string{"a"}}, {name: "orphan", value: true},
				{name: "renewable", value: false},
				{name: "path_suffix", value: "s"}, {name: "token_period", value: "1h"},
				{name: "token_explicit_max_ttl", value: "1h"},
				{name: "token_num_uses", value: 3}, {name: "token_no_default_policy", value: true},
				{name: "token_type", value: "service"},
				{name: "token_bound_cidrs", value: []string{"10.0.0.0/8"}},
			},
		},
	}
}

func updatesOfKV() map[string]update {
	settings := []field{
		{name: "max_versions", value: 3}, {name: "cas_required", value: true},
		{name: "delete_version_after", value: "1h"},
	}
	metadata := append(settings, field{name: "custom_metadata", value: fields{"a": "b"}})
	moves := []string{"updated_time", "created_time", "current_metadata_version"}
	return map[string]update{
		"kv2/config": {op: route.Write, mount: "kv-v2", path: "{m}/config", over: settings},
		"kv2/metadata/{path...}": {op: route.Write, mount: "kv-v2", path: "{m}/metadata/a", over: metadata,
			moves: moves},
		"patch kv2/metadata/{path...}": {op: route.Patch, mount: "kv-v2", path: "{m}/metadata/a", over: metadata,
			moves: moves},
	}
}

func updatesOfAWS() map[string]update {
	root := fields{"access_key": awstest.ID, "secret_key": awstest.Secret, "region": "eu-west-1"}
	pair := fields{"access_key": awstest.ID, "secret_key": awstest.Secret}
	user := fields{"credential_type": "iam_user", "user_path": absent}
	assumed := fields{"credential_type": "assumed_role"}
	session := fields{"credential_type": "session_token"}
	scheduled := fields{"rotation_period": absent, "rotation_schedule": "0 0 * * *"}
	off := fields{"rotation_period": absent, "disable_automated_rotation": true}
	return map[string]update{
		"aws/config/root": {
			op: route.Write, mount: "aws", path: "{m}/config/root", base: root, moves: []string{"next_root_rotation"},
			over: []field{
				{name: "access_key", value: awstest.ID, with: fields{"access_key": absent, "secret_key": absent},
					along: pair, clear: fields{"secret_key": nil, "region": "eu-west-1"}},
				{name: "secret_key", value: awstest.Secret, required: true},
				{name: "region", together: true, value: "eu-west-2", with: fields{"region": absent}, clear: pair},
				{name: "iam_endpoint", together: true, value: "https://iam.test", clear: root},
				{name: "sts_endpoint", together: true, value: "https://sts.test", clear: root},
				{name: "sts_region", together: true, value: "eu-west-3", clear: root},
				{name: "sts_fallback_endpoints", together: true, value: []string{"https://other.test"}, clear: root},
				{name: "sts_fallback_regions", together: true, value: []string{"eu-west-3"},
					with:  fields{"sts_fallback_endpoints": []string{"https://other.test"}},
					clear: with(root, fields{"sts_fallback_endpoints": []string{"https://other.test"}})},
				{name: "max_retries", together: true, value: 4, zero: true, clear: root},
				{name: "username_template", together: true, value: "u-{{random 20}}", clear: root},
				{name: "propagation_checks", value: 3, zero: true},
				{name: "propagation_settle", value: "3s", zero: true},
				{name: "rotation_period", value: "24h"}, {name: "rotation_schedule", value: "0 0 * * *"},
				{name: "rotation_window", value: "2h", with: fields{"rotation_schedule": "0 0 * * *"}},
				{name: "disable_automated_rotation", value: true},
				{name: "role_arn", value: nil, hidden: true},
				{name: "identity_token_audience", value: nil, hidden: true},
				{name: "identity_token_ttl", value: nil, hidden: true},
			},
		},
		"aws/config/lease": {
			op: route.Write, mount: "aws", path: "{m}/config/lease", each: fields{"lease": "1h", "lease_max": "2h"},
			over: []field{{name: "lease", value: "1h", required: true, each: true},
				{name: "lease_max", value: "2h", required: true, each: true}},
		},
		"aws/roles/{name}": {
			op: route.Write, mount: "aws", path: "{m}/roles/r", base: user,
			over: []field{
				{name: "credential_type", value: "iam_user", required: true},
				{name: "role_arns", value: []string{"arn:aws:iam::123456789012:role/r"}, with: assumed},
				{name: "policy_arns", value: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}},
				{name: "iam_groups", value: []string{"g"}},
				{name: "policy_document", value: `{"Version":"2012-10-17"}`},
				{name: "iam_tags", value: fields{"a": "b"}},
				{name: "session_tags", value: fields{"a": "b"}, with: assumed},
				{name: "permissions_boundary_arn", value: "arn:aws:iam::aws:policy/ReadOnlyAccess"},
				{name: "user_path", value: "/p/"},
				{name: "external_id", value: "ext", with: assumed},
				{name: "role_session_name", value: "name", with: assumed},
				{name: "mfa_serial_number", value: "arn:aws:iam::123456789012:mfa/me", with: session},
				{name: "default_sts_ttl", value: "1h", with: assumed},
				{name: "max_sts_ttl", value: "2h", with: assumed},
				{name: "default_ttl", value: "1h"}, {name: "max_ttl", value: "2h"},
				{name: "propagation_checks", value: 3, zero: true},
				{name: "propagation_settle", value: "3s", zero: true},
			},
		},
		"aws/static-roles/{name}": {
			op: route.Write, mount: "aws", path: "{m}/static-roles/r",
			setup: []setup{{"{m}/config/root",
				with(root, fields{"iam_endpoint": awstest.URL, "sts_endpoint": awstest.URL})}},
			base:  fields{"username": "{m}", "rotation_period": "480h", "propagation_checks": 0},
			moves: []string{"next_rotation", "next_vault_rotation"},
			over: []field{
				{name: "username", value: "{m}", required: true},
				{name: "rotation_period", value: "960h", with: off},
				{name: "rotation_schedule", value: "0 0 * * *", with: off},
				{name: "rotation_window", value: "2h", with: scheduled},
				{name: "disable_automated_rotation", value: true},
				{name: "grace_period", value: "2h"}, {name: "idle_period", value: "1h"},
				{name: "inactive_period", value: "1h"},
				{name: "assume_role_arn", value: nil, hidden: true},
				{name: "assume_role_session_name", value: nil, hidden: true},
				{name: "external_id", value: nil, hidden: true},
				{name: "propagation_checks", value: 1, zero: true, with: fields{"propagation_checks": absent}},
				{name: "propagation_settle", value: "1s", zero: true},
			},
		},
	}
}

func updatesOfDatabase() map[string]update {
	cert, key := pemOf()
	connection := fields{
		"plugin_name": "fake-database-plugin", "connection_url": "fake://{{username}}:{{password}}@db",
		"username": databasetest.FakeAdmin,
		"password": databasetest.FakePassword, "allowed_roles": "*",
	}
	mysql := fields{"plugin_name": "mysql-database-plugin",
		"connection_url": "{{username}}:{{password}}@tcp(db:3306)/"}
	redis := fields{"plugin_name": "redis-database-plugin", "connection_url": absent, "host": "db"}
	redisTLS := fields{"plugin_name": "redis-database-plugin", "connection_url": absent, "host": "db", "tls": true}
	redisSentinel := fields{"plugin_name": "redis-database-plugin", "connection_url": absent, "host": "db",
		"sentinel_master_name": "m", "sentinel_password": "s"}
	again := fields{"password": databasetest.FakePassword}
	before := []setup{{"{m}/config/db", connection}}
	creation := fields{"creation_statements": []string{"CREATE"}}
	keyed := fields{"creation_statements": []string{"CREATE {{public_key}}"}}
	scheduled := fields{"rotation_period": absent, "rotation_schedule": "0 0 * * *"}
	off := fields{"rotation_period": absent, "disable_automated_rotation": true}
	return map[string]update{
		"database/config/{name}": {
			op: route.Write, mount: "database", path: "{m}/config/db", base: connection,
			each: fields{"verify_connection": false}, moves: []string{"next_root_rotation"},
			over: []field{
				{name: "plugin_name", value: "fake-database-plugin", required: true},
				{name: "plugin_version", value: "v1"},
				{name: "allowed_roles", value: []string{"a"}, with: fields{"allowed_roles": absent}},
				{name: "connection_url", value: "fake://{{username}}:{{password}}@db", required: true, clear: again},
				{name: "username", value: databasetest.FakeAdmin, with: fields{"username": absent}, clear: again},
				{name: "password", value: databasetest.FakePassword, hidden: true},
				{name: "root_rotation_statements", value: []string{"ALTER"}}, {name: "password_policy", value: "p"},
				{name: "username_template", value: "u-{{random 20}}"},
				{name: "password_authentication", value: "password", hidden: true},
				{name: "disable_escaping", value: true, clear: again}, {name: "max_open_connections", value: 3},
				{name: "max_idle_connections", value: 3},
				{name: "max_connection_lifetime", value: "1h"},
				{name: "tls_ca", value: cert, with: mysql, clear: again},
				{name: "tls_certificate", value: cert, with: mysql, along: fields{"private_key": key},
					clear: with(again, fields{"private_key": nil})},
				{name: "private_key", value: key, with: mysql, along: fields{"tls_certificate": cert},
					clear: with(again, fields{"tls_certificate": nil})},
				{name: "terminate_sessions", value: true},
				{name: "rotation_period", value: "24h"}, {name: "rotation_schedule", value: "0 0 * * *"},
				{name: "rotation_window", value: "2h", with: fields{"rotation_schedule": "0 0 * * *"}},
				{name: "disable_automated_rotation", value: true},
				{name: "tls_certificate_key", value: cert + key, with: mysql, hidden: true, clear: again},
				{name: "tls_server_name", value: "name", with: mysql, clear: again},
				{name: "tls_skip_verify", value: true, with: mysql, clear: again},
				{name: "host", value: "other", with: redis, required: true},
				{name: "port", value: 7000, with: redis, clear: again},
				{name: "tls", value: true, with: redis, clear: again},
				{name: "insecure_tls", value: true, with: redisTLS, clear: again},
				{name: "cluster", value: true, with: redis, clear: again},
				{name: "sentinel_master_name", value: "n", with: redis, clear: again},
				{name: "sentinel_username", value: "u", with: redisSentinel, clear: again},
				{name: "sentinel_password", value: "p", with: redisSentinel, hidden: true, clear: again},
				{name: "ca_cert", value: cert, with: redisTLS, clear: again},
				{name: "persistence_mode", value: "REWRITE", with: redis, clear: again},
			},
		},
		"database/roles/{name}": {
			op: route.Write, mount: "database", path: "{m}/roles/r", setup: before,
			base: with(creation, fields{"db_name": "db"}),
			over: []field{
				{name: "db_name", value: "db", required: true},
				{name: "creation_statements", value: []string{"CREATE", "MORE"},
					with: fields{"creation_statements": absent}},
				{name: "revocation_statements", value: []string{"DROP"}},
				{name: "renew_statements", value: []string{"R"}}, {name: "rollback_statements", value: []string{"B"}},
				{name: "default_ttl", value: "1h"}, {name: "max_ttl", value: "2h"},
				{name: "terminate_sessions", value: true}, {name: "reuse", value: "token"},
				{name: "credential_type", value: "rsa_private_key", with: fields{"creation_statements": absent}},
				{name: "credential_config", value: fields{"key_bits": "3072"},
					with: with(keyed, fields{"credential_type": "rsa_private_key"})},
			},
		},
		"database/static-roles/{name}": {
			op: route.Write, mount: "database", path: "{m}/static-roles/r", setup: before,
			base:  fields{"db_name": "db", "username": "{m}", "rotation_period": "24h"},
			moves: []string{"next_vault_rotation", "ttl"},
			over: []field{
				{name: "db_name", value: "db", required: true}, {name: "username", value: "{m}", required: true},
				{name: "alternate_username", value: "{m}-2", with: fields{"alternate_username": "{m}-2"},
					required: true},
				{name: "rotation_statements", value: []string{"ALTER"}},
				{name: "rotation_period", value: "48h", with: off},
				{name: "rotation_schedule", value: "0 0 * * *", with: off},
				{name: "rotation_window", value: "2h", with: scheduled},
				{name: "disable_automated_rotation", value: true},
				{name: "credential_type", value: "password", hidden: true},
				{name: "credential_config", value: fields{"password_policy": "p"}},
			},
		},
	}
}

func updatesOfRotation() map[string]update {
	ca, _ := pemOf()
	return map[string]update{
		"rotation/config": {
			op: route.Write, mount: "rotation", path: "{m}/config",
			over: []field{{name: "brake", value: true}, {name: "default_grace_period", value: "24h"},
				{name: "default_read_ttl", value: "30s"}, {name: "blackout", value: []string{"12-24/01-02"}}},
		},
		"patch rotation/keys/{name}": {
			op: route.Patch, mount: "rotation", path: "{m}/keys/k",
			moves: []string{"next_rotation", "state", "due", "rotation", "rotations", "attempts", "status", "summary"},
			setup: []setup{{"{m}/config", fields{"brake": true}}},
			base: fields{
				"recipe": "http-demo", "params": fields{"url": "http://127.0.0.1:1"}, "admin": fields{"token": "t"},
				"path": "secret/{m}", "skip_import_rotation": true,
			},
			over: []field{
				{name: "recipe", value: "http-demo", required: true},
				{name: "path", value: "secret/{m}", required: true},
				{name: "params", value: fields{"url": "http://127.0.0.1:1"}, required: true},
				{name: "admin", value: fields{"token": "t"}, hidden: true},
				{name: "fields", value: fields{"api_key": "key"}, with: fields{"admin": fields{"token": "t"}},
					clear: fields{"admin": fields{"token": "t"}}}, {name: "class", value: "low-risk"},
				{name: "rotation_period", value: "240h"}, {name: "rotation_schedule", value: "0 3 * * SAT"},
				{name: "rotation_window", value: "2h", with: fields{"rotation_schedule": "0 3 * * SAT"}},
				{name: "jitter", value: "1h"}, {name: "manual", value: true},
				{name: "blackout", value: []string{"12-24/01-02"}},
				{name: "ca", value: ca, with: fields{"admin": fields{"token": "t"}},
					clear: fields{"admin": fields{"token": "t"}}},
				{name: "grace_period", value: "24h"}, {name: "read_ttl", value: "30s"},
				{name: "idle_period", value: "2h"}, {name: "max_hold", value: "24h"},
				{name: "settle_successes", value: 3}, {name: "settle_interval", value: "3s"},
				{name: "settle_timeout", value: "1m"},
			},
		},
	}
}
