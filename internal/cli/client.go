package cli

import (
	"net/http"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/cliconfig"

	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/secret"
)

// connect returns the session's client. The API library reads the environment,
// flags come over it, and the token is VAULT_TOKEN or the token helper's.
func (s *session) connect() (*client, error) {
	if s.client != nil {
		return s.client, nil
	}
	config, err := s.opt.config(s.env.Getenv)
	if err != nil {
		return nil, local(err, "configuring the client")
	}
	sender, err := api.NewClient(config)
	if err != nil {
		if next := schemeHint(s.opt.server(s.env.Getenv)); next != "" {
			return nil, hinted(local(err, "configuring the client"), "%s", next)
		}
		return nil, local(err, "configuring the client")
	}
	held, err := s.heldToken()
	if err != nil {
		return nil, err
	}
	if sender.ClearToken(); !held.Empty() {
		sender.SetToken(held.RevealString())
	}
	if err := s.opt.configure(sender, s.env.Getenv); err != nil {
		return nil, err
	}
	s.client = newClient(sender, s.opt.asCurl, s.opt.asPolicy)
	s.client.held, s.client.serverName = held, s.opt.tlsServerName
	if s.client.serverName == "" {
		s.client.serverName = s.env.Getenv("VAULT_TLS_SERVER_NAME")
	}
	s.client.socket, _ = strings.CutPrefix(config.Address, "unix://")
	if s.client.socket == config.Address {
		s.client.socket = ""
	}
	return s.client, nil
}

// config is the connection that the environment and the flags describe.
func (o *options) config(getenv func(string) string) (*api.Config, error) {
	if err := o.checkFiles(getenv); err != nil {
		return nil, err
	}
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, config.Error
	}
	if address := getenv("VAULT_ADDR"); address != "" {
		config.Address = address
	}
	if o.address != "" {
		config.Address, config.AgentAddress = o.address, ""
	}
	if o.agentAddress != "" {
		config.AgentAddress = o.agentAddress
	}
	config.DisableRedirects = config.DisableRedirects || o.noRedirects
	config.OutputCurlString, config.OutputPolicy = o.asCurl, o.asPolicy
	if getenv("VAULT_MAX_RETRIES") == "" {
		config.MaxRetries = 0 // a person, or a script that has its own loop, is waiting
	}
	given := api.TLSConfig{CACert: o.caFile, CAPath: o.caFolder, ClientCert: o.clientCert,
		ClientKey: o.clientKeyFile, TLSServerName: o.tlsServerName, Insecure: o.skipVerify}
	if o.caFile != "" || o.caFolder != "" || o.clientCert != "" || o.clientKeyFile != "" || o.tlsServerName != "" || o.skipVerify {
		return config, config.ConfigureTLS(&given)
	}
	return config, nil
}

// checkFiles refuses devices, which never end, before the client and the token helper read the files whole that flags and environment name. A pipe passes:
// looking into it would take what it holds.
func (o *options) checkFiles(getenv func(string) string) error {
	names := []string{o.caFile, o.clientCert, o.clientKeyFile}
	for _, v := range []string{"VAULT_CACERT", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY", "VAULT_CONFIG_PATH"} {
		names = append(names, getenv(v))
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err == nil && (info.Mode()&os.ModeDevice != 0 || info.Size() > hostfile.MaxSize) {
			return usagef("%s is a device, or larger than %d bytes; name a file with certificates, a key or a configuration", name, hostfile.MaxSize)
		}
	}
	return nil
}

// configure sets what goes with each request.
func (o *options) configure(client *api.Client, getenv func(string) string) error {
	namespace := o.namespace
	if namespace == "" {
		namespace = getenv("VAULT_NAMESPACE")
	}
	if namespace != "" && namespace != "/" {
		ns, err := folder(namespace)
		if err != nil {
			return err
		}
		client.SetNamespace(string(ns) + "/")
	}
	for key, value := range o.headers {
		if strings.HasPrefix(strings.ToLower(key), "x-vault-") {
			return usagef("-header: %s: headers that begin with X-Vault- have their own flags", key)
		}
		client.AddHeader(key, value)
	}
	if len(o.mfa) > 0 {
		client.SetMFACreds(o.mfa)
	}
	if o.policyOverride {
		client.SetPolicyOverride(true)
	}
	wrap := o.wrapTTL
	if wrap == "" {
		wrap = getenv("VAULT_WRAP_TTL")
	}
	client.SetWrappingLookupFunc(func(operation, path string) string {
		if wrap == "" && path == "sys/wrapping/wrap" && (operation == http.MethodPut || operation == http.MethodPost) {
			return api.DefaultWrappingTTL
		}
		return wrap
	})
	return nil
}

// heldToken is the token that requests carry; empty when there is none.
func (s *session) heldToken() (secret.Value, error) {
	if held := s.env.Getenv("VAULT_TOKEN"); held != "" {
		return secret.Text(held), nil
	}
	helper, err := cliconfig.DefaultTokenHelper()
	if err != nil {
		return secret.Value{}, local(err, "finding the token helper")
	}
	held, err := helper.Get()
	return secret.Text(strings.TrimSpace(held)), local(err, "reading the token from %s", helper.Path())
}
