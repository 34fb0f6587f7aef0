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

// connect returns the session's client, which it makes once. Flags win over the environment, which
// the API library reads. The token is VAULT_TOKEN, or the one of the token helper.
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
	token, err := s.sessionToken()
	if err != nil {
		return nil, err
	}
	if sender.ClearToken(); !token.Empty() {
		sender.SetToken(token.RevealString())
	}
	if err := s.opt.configure(sender, s.env.Getenv); err != nil {
		return nil, err
	}
	s.client = newClient(sender, s.opt.asCurl, s.opt.asPolicy)
	s.client.token, s.client.serverName = token, s.opt.tlsServerName
	if s.client.serverName == "" {
		s.client.serverName = s.env.Getenv("VAULT_TLS_SERVER_NAME")
	}
	s.client.socket, _ = strings.CutPrefix(config.Address, "unix://")
	if s.client.socket == config.Address {
		s.client.socket = ""
	}
	return s.client, nil
}

// config makes the configuration of the connection from the environment and the flags.
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
		config.MaxRetries = 0 // a person waits, or a script that has its own loop
	}
	tls := api.TLSConfig{
		CACert: o.caFile, CAPath: o.caFolder, ClientCert: o.clientCert, ClientKey: o.clientKeyFile,
		TLSServerName: o.tlsServerName, Insecure: o.skipVerify,
	}
	if o.caFile != "" || o.caFolder != "" || o.clientCert != "" || o.clientKeyFile != "" || o.tlsServerName != "" ||
		o.skipVerify {
		return config, config.ConfigureTLS(&tls)
	}
	return config, nil
}

// checkFiles refuses devices and large files before the client and the token helper read the files
// that the flags and the environment name, because reading a device may never end. It accepts a
// pipe, whose content it could not check without consuming it.
func (o *options) checkFiles(getenv func(string) string) error {
	names := []string{o.caFile, o.clientCert, o.clientKeyFile}
	for _, v := range []string{"VAULT_CACERT", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY", "VAULT_CONFIG_PATH"} {
		names = append(names, getenv(v))
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err == nil && (info.Mode()&os.ModeDevice != 0 || info.Size() > hostfile.MaxSize) {
			return usagef(
				"%s is a device, or larger than %d bytes; name a file with certificates, a key or a configuration",
				name, hostfile.MaxSize)
		}
	}
	return nil
}

// configure sets the headers and options that all requests share.
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

// sessionToken returns the token that requests carry; it is empty if there is none.
func (s *session) sessionToken() (secret.Value, error) {
	if token := s.env.Getenv("VAULT_TOKEN"); token != "" {
		return secret.Text(token), nil
	}
	helper, err := cliconfig.DefaultTokenHelper()
	if err != nil {
		return secret.Value{}, local(err, "finding the token helper")
	}
	token, err := helper.Get()
	return secret.Text(strings.TrimSpace(token)), local(err, "reading the token from %s", helper.Path())
}
