package client

import (
	"context"
	"net/http"
	"net/url"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/keyturn/keyturn/internal/fault"
)

// ambient finds the server's own credentials: those of its environment, of the machine's role and,
// if the operator allows it, of AWS's shared files. It connects through the configured dialer, so
// that the operator's rules apply.
func (c *Config) ambient(ctx context.Context, h *http.Client) (aws.CredentialsProvider, error) {
	// The metadata client would replace the dialer of any client that is not a plain http.Client.
	metadata := func(o *ec2rolecreds.Options) { o.Client = imds.New(imds.Options{HTTPClient: h}) }
	guarded := awshttp.NewBuildableClient().WithTransportOptions(
		func(t *http.Transport) { t.DialContext, t.Proxy = c.Dial, nil })
	env, err := config.NewEnvConfig()
	if err != nil {
		return nil, explain("looking for credentials", err)
	}
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region), config.WithHTTPClient(guarded),
		config.WithEC2RoleCredentialOptions(metadata),
		config.WithSharedConfigFiles(c.shared(env.SharedConfigFile, config.DefaultSharedConfigFilename())),
		config.WithSharedCredentialsFiles(
			c.shared(env.SharedCredentialsFile, config.DefaultSharedCredentialsFilename())))
	if err != nil {
		return nil, explain("looking for credentials", err)
	}
	return found.Credentials, nil
}

// shared returns the only shared file that may be read, or none: the one that the environment
// names, or the one in the home folder, if the operator has listed its folder. The list is never
// nil, because the library would then use its default.
func (c *Config) shared(named, usual string) []string {
	switch {
	case named != "":
		return []string{named}
	case c.Files.Has(usual):
		return []string{usual}
	}
	return []string{}
}

// ownHost matches the hosts of IAM and STS in all of AWS's partitions, and of private endpoints.
// Other hosts in these domains belong to customers of AWS.
var ownHost = regexp.MustCompile(
	`^(iam|sts)(-fips)?(\.(global|us-gov|[a-z]{2,3}(-[a-z]+)+-[0-9]))?\.(amazonaws\.com(\.cn)?|amazonaws\.eu|api\.aws|api\.amazonwebservices\.com\.cn|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$` +
		`|^vpce-[a-z0-9-]+\.(iam|sts)\.[a-z]{2,3}(-[a-z]+)+-[0-9]\.vpce\.amazonaws\.com(\.cn)?$`)

// Own reports whether an address belongs to AWS. "" is AWS's default.
func Own(endpoint string) bool {
	if endpoint == "" {
		return true
	}
	u, err := url.Parse(Address(endpoint))
	return err == nil && u.Scheme == "https" && (u.Port() == "" || u.Port() == "443") &&
		ownHost.MatchString(u.Hostname())
}

// homebound returns the server's own credentials only for calls to AWS. A client that may
// configure an endpoint must not receive requests that are signed with the machine's credentials.
type homebound struct {
	found    aws.CredentialsProvider
	endpoint string
}

// Retrieve returns the credentials, or an error if the endpoint is not AWS's.
func (h homebound) Retrieve(ctx context.Context) (aws.Credentials, error) {
	v, err := h.found.Retrieve(ctx)
	switch {
	case err != nil && (ctx.Err() != nil || fault.Is(err, fault.Denied)):
		return aws.Credentials{}, err
	case err != nil:
		return aws.Credentials{}, &fault.Error{Op: "aws", Kind: fault.Denied, Err: err,
			Msg: "the server has no credentials of its own, neither in its environment nor by its machine's role, " +
				"nor in a shared file that connection_folders allows; give access_key and secret_key, or make them " +
				"known to the server"}
	case !Own(h.endpoint):
		return aws.Credentials{}, fault.New("aws", fault.Denied, "the server's own credentials are sent only to "+
			"AWS's own addresses; give access_key and secret_key for another iam_endpoint or sts_endpoint")
	}
	return v, nil
}
