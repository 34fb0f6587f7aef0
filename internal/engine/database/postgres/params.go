package postgres

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// unsupportedParams maps the parameters of libpq, JDBC and lib/pq that are not supported to what
// to do instead. Unknown parameters are sent to the server as settings; there, these would be
// refused as "no such object". An error names only known parameters, because anything else may be
// part of a password.
var unsupportedParams = map[string]string{
	"hostaddr": "write the address as the host", "fallback_application_name": "say application_name",
	"ssl":                "say sslmode",
	"load_balance_hosts": "", "sslcompression": "", "replication": "",
	"keepalives": "", "keepalives_idle": "", "keepalives_interval": "", "keepalives_count": "",
	"tcp_user_timeout": "say connect_timeout",
	"gssencmode":       "", "ssl_min_protocol_version": "TLS 1.2 is the least", "ssl_max_protocol_version": "",
	"scram_client_key": "", "scram_server_key": "",
	"oauth_issuer": "", "oauth_client_id": "", "oauth_client_secret": "", "oauth_scope": "", "ssltermination": "",

	"currentSchema": "say search_path", "ApplicationName": "say application_name",
	"applicationName": "say application_name", "targetServerType": "say target_session_attrs",
	"connectTimeout": "say connect_timeout", "loginTimeout": "say connect_timeout",
	"socketTimeout": "say statement_timeout", "tcpKeepAlive": "",
	"sslMode": "say sslmode", "sslRootCert": "give tls_ca", "sslCert": "give tls_certificate",
	"sslKey": "give private_key", "sslfactory": "say sslmode", "sslfactoryarg": "say sslmode",
	"sslhostnameverifier": "say sslmode", "sslpasswordcallback": "", "sslNegotiation": "say sslnegotiation",
	"sslResponseTimeout": "", "gssEncMode": "", "gssResponseTimeout": "",
	"channelBinding": "say channel_binding", "loadBalanceHosts": "", "hostRecheckSeconds": "", "prepareThreshold": "",
	"preferQueryMode": "", "binaryTransfer": "",
	"reWriteBatchedInserts": "", "stringtype": "", "assumeMinServerVersion": "", "defaultRowFetchSize": "",
	"readOnly": "", "loggerLevel": "", "allowEncodingChanges": "",

	"binary_parameters": "", "disable_prepared_binary_result": "", "krbsrvname": "",
}

// unsupported returns the problems of known parameters that are not supported.
func (s settings) unsupported() (problems []error) {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		advice, known := unsupportedParams[key]
		switch _, host := hostSettings[key]; {
		case !known || host:
		case advice == "":
			problems = append(problems,
				fmt.Errorf("connection_url has the parameter %q, which is not supported: remove it", key))
		default:
			problems = append(problems,
				fmt.Errorf("connection_url has the parameter %q, which is not supported: %s, or remove it",
					key, advice))
		}
	}
	return problems
}

// allowedValues are the possible values of some parameters.
var allowedValues = map[string][]string{
	"target_session_attrs": {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"},
	"channel_binding":      {"prefer", "require", "disable"}, "sslnegotiation": {"postgres", "direct"},
	"sslsni":      {"1", "0"},
	"sslcertmode": {"allow", "disable", "require"}, "min_protocol_version": {"3.0", "3.2", "latest"},
	"max_protocol_version": {"3.0", "3.2", "latest"},
}

// wrongValues returns the problems of parameters with invalid values.
func (s settings) wrongValues() (problems []error) {
	for _, key := range slices.Sorted(maps.Keys(allowedValues)) {
		if value := s[key]; value != "" && !slices.Contains(allowedValues[key], value) {
			problems = append(problems, fmt.Errorf("connection_url has a %s that is unknown: choose one of %s", key,
				strings.Join(allowedValues[key], ", ")))
		}
	}
	if t := s["connect_timeout"]; t != "" {
		if n, err := strconv.Atoi(t); err != nil || n < 0 {
			problems = append(problems,
				errors.New("connection_url has a connect_timeout that is not a number of seconds"))
		}
	}
	if hosts, ports := strings.Count(s["host"], ","), strings.Count(s["port"], ","); ports > 0 && hosts != ports {
		problems = append(problems,
			errors.New("connection_url has not as many ports as hosts: give one for each, or one for all"))
	}
	return problems
}
