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

// ambient finds the credentials that this server has of its own: those of its environment and its machine's role, and
// of AWS's shared files where the operator lets clients use them. What is asked for them is dialed as all else is: the
// operator decides whether it may be.
func (c *Config) ambient(ctx context.Context, h *http.Client) (aws.CredentialsProvider, error) {
	// The metadata service's client would put a dialer of its own into any but a plain one.
	metadata := func(o *ec2rolecreds.Options) { o.Client = imds.New(imds.Options{HTTPClient: h}) }
	guarded := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.DialContext, t.Proxy = c.Dial, nil })
	env, err := config.NewEnvConfig()
	if err != nil {
		return nil, explain("looking for credentials", err)
	}
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region), config.WithHTTPClient(guarded), config.WithEC2RoleCredentialOptions(metadata),
		config.WithSharedConfigFiles(c.shared(env.SharedConfigFile, config.DefaultSharedConfigFilename())),
		config.WithSharedCredentialsFiles(c.shared(env.SharedCredentialsFile, config.DefaultSharedCredentialsFilename())))
	if err != nil {
		return nil, explain("looking for credentials", err)
	}
	return found.Credentials, nil
}

// shared is the one file that may be read, or none: the one that the server's environment names, else the one of its
// home folder if that is among the folders that the operator has listed. The list is never nil, for which the
// library would take its default.
func (c *Config) shared(named, usual string) []string {
	switch {
	case named != "":
		return []string{named}
	case c.Files.Has(usual):
		return []string{usual}
	}
	return []string{}
}

// ownHost are the hosts of IAM and STS, in all of AWS's partitions, and of private endpoints of a network's own to
// them. Others below these domains belong to AWS's customers.
var ownHost = regexp.MustCompile(`^(iam|sts)(-fips)?(\.(global|us-gov|[a-z]{2,3}(-[a-z]+)+-[0-9]))?\.(amazonaws\.com(\.cn)?|amazonaws\.eu|api\.aws|api\.amazonwebservices\.com\.cn|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$` +
	`|^vpce-[a-z0-9-]+\.(iam|sts)\.[a-z]{2,3}(-[a-z]+)+-[0-9]\.vpce\.amazonaws\.com(\.cn)?$`)

// Own reports whether an address is one of AWS's: "" is its default.
func Own(endpoint string) bool {
	if endpoint == "" {
		return true
	}
	u, err := url.Parse(Address(endpoint))
	return err == nil && u.Scheme == "https" && (u.Port() == "" || u.Port() == "443") && ownHost.MatchString(u.Hostname())
}

// homebound gives the server's own credentials to calls that go to AWS, and to no others: a client that may write an
// endpoint must not receive requests that are signed with the machine's credentials.
type homebound struct {
	found    aws.CredentialsProvider
	endpoint string
}

// Retrieve gives the credentials, or says why not.
func (h homebound) Retrieve(ctx context.Context) (aws.Credentials, error) {
	v, err := h.found.Retrieve(ctx)
	switch {
	case err != nil && (ctx.Err() != nil || fault.Is(err, fault.Denied)):
		return aws.Credentials{}, err
	case err != nil:
		return aws.Credentials{}, &fault.Error{Op: "aws", Kind: fault.Denied, Err: err,
			Msg: "the server has no credentials of its own, neither in its environment nor by its machine's role, nor in a shared file that connection_folders allows; give access_key and secret_key, or make them known to the server"}
	case !Own(h.endpoint):
		return aws.Credentials{}, fault.New("aws", fault.Denied, "the server's own credentials are sent to AWS's own addresses alone; give access_key and secret_key for another iam_endpoint or sts_endpoint")
	}
	return v, nil
}
