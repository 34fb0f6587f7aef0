package awsserver

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	adminID     = "AKIAIOSFODNN7EXAMPLE"
	adminSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// TestSignature checks the worked example of AWS's "Signature Version 4" pages: a GET of
// ListUsers.
func TestSignature(t *testing.T) {
	const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	at := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	request := func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", nil)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		r.Header.Set("X-Amz-Date", "20150830T123600Z")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "+
			"SignedHeaders=content-type;host;x-amz-date, "+
			"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")
		return r
	}
	for _, tt := range []struct {
		name   string
		change func(r *http.Request)
		body   string
		secret string
		late   time.Duration
		want   string
	}{
		{"as it stands", func(*http.Request) {}, "", secret, 0, ""},
		{"four minutes later", func(*http.Request) {}, "", secret, 4 * time.Minute, ""},
		{"six minutes later", func(*http.Request) {}, "", secret, 6 * time.Minute, "SignatureDoesNotMatch"},
		{"six minutes ahead", func(*http.Request) {}, "", secret, -6 * time.Minute, "SignatureDoesNotMatch"},
		{"another secret", func(*http.Request) {}, "", secret + "x", 0, "SignatureDoesNotMatch"},
		{"another action", func(r *http.Request) { r.URL.RawQuery = "Action=ListRoles&Version=2010-05-08" }, "",
			secret, 0, "SignatureDoesNotMatch"},
		{"another host", func(r *http.Request) { r.Host = "iam.example.com" }, "", secret, 0, "SignatureDoesNotMatch"},
		{"a body", func(*http.Request) {}, "Action=DeleteUser", secret, 0, "SignatureDoesNotMatch"},
		{"another day", func(r *http.Request) { r.Header.Set("X-Amz-Date", "20150831T123600Z") }, "", secret, 0,
			"IncompleteSignature"},
	} {
		r := request()
		tt.change(r)
		sig, ok := parseSignature(r.Header.Get("Authorization"))
		if !ok {
			t.Fatal("the header is not understood")
		}
		got := ""
		if fail := sig.verify(r, []byte(tt.body), tt.secret, at.Add(tt.late)); fail != nil {
			got = fail.code
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, bad := range []string{"", "Basic eA==", "AWS4-HMAC-SHA256 ",
		"AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=x-amz-date, Signature=00",
		"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=00"} {
		if _, ok := parseSignature(bad); ok {
			t.Errorf("%q is taken for a signature", bad)
		}
	}
}

// FuzzParseSignature checks that no header panics, and that a parsed signature is complete.
func FuzzParseSignature(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKID/20150830/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=00")
	f.Fuzz(func(t *testing.T, header string) {
		if sig, ok := parseSignature(header); ok &&
			(sig.keyID == "" || sig.mac == "" || !slices.Contains(sig.headers, "host")) {
			t.Errorf("%q: %+v", header, sig)
		}
	})
}

// world is a server with a caller.
type world struct {
	*Server
	t                 *testing.T
	id, secret, token string
}

func start(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{Server: New(o), t: t, id: adminID, secret: adminSecret}
	w.AddAdmin(Account, "keyturn", adminID, adminSecret)
	return w
}

// as returns the world with another key.
func (w *world) as(id, secret, token string) *world {
	return &world{Server: w.Server, t: w.t, id: id, secret: secret, token: token}
}

// An answer is a reply, with the paths and texts of its elements.
type answer struct {
	status int
	space  string
	texts  map[string][]string
}

func (a answer) text(path string) string {
	if len(a.texts[path]) == 0 {
		return ""
	}
	return a.texts[path][0]
}

// call signs and makes a call: "CreateUser UserName=bob Path=/x/".
func (w *world) call(line string) answer {
	w.t.Helper()
	fields := strings.Fields(line)
	form := url.Values{"Action": {fields[0]}, "Version": {"2010-05-08"}}
	service := "iam"
	if _, ok := stsActions[fields[0]]; ok {
		service = "sts"
	}
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		form.Set(name, value)
	}
	body := form.Encode()
	r := httptest.NewRequest(http.MethodPost, "http://"+service+".test/", strings.NewReader(body))
	now := time.Now().UTC()
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Amz-Date", now.Format("20060102T150405Z"))
	if w.token != "" {
		r.Header.Set("X-Amz-Security-Token", w.token)
	}
	sig := signature{keyID: w.id, date: now.Format("20060102"), region: "us-east-1", service: service,
		headers: []string{"content-type", "host", "x-amz-date"}}
	r.Header.Set("Authorization",
		"AWS4-HMAC-SHA256 Credential="+
			strings.Join([]string{sig.keyID, sig.date, sig.region, sig.service, "aws4_request"}, "/")+
			", SignedHeaders="+strings.Join(sig.headers, ";")+", Signature="+sig.sum(r, []byte(body), w.secret))
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return read(w.t, rec)
}

func read(t *testing.T, rec *httptest.ResponseRecorder) answer {
	t.Helper()
	a := answer{status: rec.Code, texts: map[string][]string{}}
	dec := xml.NewDecoder(rec.Body)
	var path []string
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return a
		}
		if err != nil {
			t.Fatalf("%v in the answer", err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			path = append(path, tok.Name.Local)
			a.space = tok.Name.Space
			a.texts[strings.Join(path, "/")] = append(a.texts[strings.Join(path, "/")], "")
		case xml.CharData:
			if list := a.texts[strings.Join(path, "/")]; len(list) > 0 {
				list[len(list)-1] += strings.TrimSpace(string(tok))
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
}

// documented are the elements below <ActionResponse> of the replies in the API references of IAM
// and STS. A call without elements answers with ResponseMetadata only.
var documented = []struct{ call, elements string }{
	{"CreateUser UserName=bob Path=/svc/ PermissionsBoundary=arn:aws:iam::aws:policy/B",
		"CreateUserResult/User/ Path UserName UserId Arn CreateDate PermissionsBoundary/PermissionsBoundaryArn"},
	{"GetUser UserName=bob", "GetUserResult/User/ Path UserName UserId Arn CreateDate"},
	{"CreateAccessKey UserName=bob",
		"CreateAccessKeyResult/AccessKey/ UserName AccessKeyId Status SecretAccessKey CreateDate"},
	{"ListAccessKeys UserName=bob", "ListAccessKeysResult/ AccessKeyMetadata/member/UserName " +
		"AccessKeyMetadata/member/AccessKeyId AccessKeyMetadata/member/Status AccessKeyMetadata/member/CreateDate " +
		"IsTruncated"},
	{"GetAccessKeyLastUsed AccessKeyId=" + adminID, "GetAccessKeyLastUsedResult/ UserName " +
		"AccessKeyLastUsed/LastUsedDate AccessKeyLastUsed/ServiceName AccessKeyLastUsed/Region"},
	{"PutUserPolicy UserName=bob PolicyName=own PolicyDocument={\"Statement\":[]}", ""},
	{"ListUserPolicies UserName=bob", "ListUserPoliciesResult/ PolicyNames/member IsTruncated"},
	{"AttachUserPolicy UserName=bob PolicyArn=arn:aws:iam::aws:policy/A", ""},
	{"ListAttachedUserPolicies UserName=bob", "ListAttachedUserPoliciesResult/ AttachedPolicies/member/PolicyName " +
		"AttachedPolicies/member/PolicyArn IsTruncated"},
	{"AddUserToGroup UserName=bob GroupName=devs", ""},
	{"ListGroupsForUser UserName=bob", "ListGroupsForUserResult/ Groups/member/Path Groups/member/GroupName " +
		"Groups/member/GroupId Groups/member/Arn IsTruncated"},
	{"GetLoginProfile UserName=ann", "GetLoginProfileResult/LoginProfile/ UserName CreateDate"},
	{"ListMFADevices UserName=ann",
		"ListMFADevicesResult/ MFADevices/member/UserName MFADevices/member/SerialNumber IsTruncated"},
	{"ListSSHPublicKeys UserName=ann", "ListSSHPublicKeysResult/ SSHPublicKeys/member/UserName " +
		"SSHPublicKeys/member/SSHPublicKeyId SSHPublicKeys/member/Status SSHPublicKeys/member/UploadDate IsTruncated"},
	{"ListSigningCertificates UserName=ann", "ListSigningCertificatesResult/ Certificates/member/UserName " +
		"Certificates/member/CertificateId Certificates/member/CertificateBody " +
		"Certificates/member/Status IsTruncated"},
	{"ListServiceSpecificCredentials UserName=ann",
		"ListServiceSpecificCredentialsResult/ServiceSpecificCredentials/member/ UserName Status ServiceUserName " +
			"CreateDate ServiceSpecificCredentialId ServiceName"},
	{"RemoveUserFromGroup UserName=bob GroupName=devs", ""},
	{"ListAttachedGroupPolicies GroupName=devs", "ListAttachedGroupPoliciesResult/ " +
		"AttachedPolicies/member/PolicyName AttachedPolicies/member/PolicyArn IsTruncated"},
	{"ListGroupPolicies GroupName=devs", "ListGroupPoliciesResult/ PolicyNames/member IsTruncated"},
	{"GetGroupPolicy GroupName=devs PolicyName=own", "GetGroupPolicyResult/ GroupName PolicyName PolicyDocument"},
	{"GetCallerIdentity", "GetCallerIdentityResult/ Arn UserId Account"},
	{"AssumeRole RoleArn=arn:aws:iam::123456789012:role/ci RoleSessionName=me",
		"AssumeRoleResult/ AssumedRoleUser/Arn AssumedRoleUser/AssumedRoleId Credentials/AccessKeyId " +
			"Credentials/SecretAccessKey Credentials/SessionToken Credentials/Expiration"},
	{"GetFederationToken Name=me", "GetFederationTokenResult/ FederatedUser/Arn FederatedUser/FederatedUserId " +
		"Credentials/AccessKeyId Credentials/SecretAccessKey Credentials/SessionToken Credentials/Expiration"},
	{"GetSessionToken", "GetSessionTokenResult/Credentials/ AccessKeyId SecretAccessKey SessionToken Expiration"},
}

func TestDocumentedReplies(t *testing.T) {
	w := start(t, Options{})
	w.AddGroup(Account, "devs")
	w.GiveGroup(Account, "devs", "own", `{"Statement":[]}`, "arn:aws:iam::aws:policy/A")
	w.AddRole(Account, Role{Name: "ci"})
	w.AddUser(Account, "ann")
	w.Attach(Account, "ann")
	w.Use(adminID)
	for _, tt := range documented {
		name, _, _ := strings.Cut(tt.call, " ")
		a := w.call(tt.call)
		space := "https://iam.amazonaws.com/doc/2010-05-08/"
		if _, ok := stsActions[name]; ok {
			space = "https://sts.amazonaws.com/doc/2011-06-15/"
		}
		if a.status != http.StatusOK || a.space != space || a.text(name+"Response/ResponseMetadata/RequestId") == "" {
			t.Errorf("%s: %d in %s: %v", tt.call, a.status, a.space, a.texts)
		}
		if tt.elements == "" {
			if len(a.texts) != 3 {
				t.Errorf("%s: answers more than its metadata: %v", tt.call, a.texts)
			}
			continue
		}
		below, leaves, _ := strings.Cut(tt.elements, " ")
		for leaf := range strings.FieldsSeq(leaves) {
			if a.text(name+"Response/"+below+leaf) == "" {
				t.Errorf("%s: the answer lacks %s%s", tt.call, below, leaf)
			}
		}
	}
}

// TestDocumentedErrors checks codes and statuses against the references.
func TestDocumentedErrors(t *testing.T) {
	w := start(t, Options{})
	w.AddUser(Account, "ann")
	w.AddKey(Account, "ann")
	w.AddKey(Account, "ann")
	limited := w.as(w.AddKeyOf("low"))
	for _, tt := range []struct {
		w      *world
		call   string
		status int
		code   string
	}{
		{w, "CreateUser UserName=ann", 409, "EntityAlreadyExists"},
		{w, "CreateUser UserName=a/b", 400, "ValidationError"},
		{w, "GetUser UserName=nobody", 404, "NoSuchEntity"},
		{w, "CreateAccessKey UserName=ann", 409, "LimitExceeded"},
		{w, "DeleteAccessKey UserName=ann AccessKeyId=AKIANOTTHERE", 404, "NoSuchEntity"},
		{w, "DeleteUser UserName=ann", 409, "DeleteConflict"},
		{w, "PutUserPolicy UserName=ann PolicyName=x PolicyDocument={", 400, "MalformedPolicyDocument"},
		{w, "AddUserToGroup UserName=ann GroupName=nobody", 404, "NoSuchEntity"},
		{w, "AttachUserPolicy UserName=ann PolicyArn=arn:aws:iam::123456789012:policy/absent", 404, "NoSuchEntity"},
		{w, "DetachUserPolicy UserName=ann PolicyArn=arn:aws:iam::aws:policy/A", 404, "NoSuchEntity"},
		{w, "Nonsense", 400, "InvalidAction"},
		{w, "AssumeRole RoleArn=arn:aws:iam::123456789012:role/none RoleSessionName=me", 403, "AccessDenied"},
		{w, "GetFederationToken Name=me DurationSeconds=60", 400, "ValidationError"},
		{limited, "CreateUser UserName=eve", 403, "AccessDenied"},
		{w.as("AKIANOTTHERE", adminSecret, ""), "GetCallerIdentity", 403, "InvalidClientTokenId"},
		{w.as(adminID, "wrong", ""), "GetCallerIdentity", 403, "SignatureDoesNotMatch"},
	} {
		a := tt.w.call(tt.call)
		if got := a.text("ErrorResponse/Error/Code"); a.status != tt.status || got != tt.code ||
			a.text("ErrorResponse/Error/Type") != "Sender" || a.text("ErrorResponse/RequestId") == "" {
			t.Errorf("%s: %d %s, want %d %s", tt.call, a.status, got, tt.status, tt.code)
		}
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=ListUsers")))
	if a := read(t, rec); a.status != 403 || a.text("ErrorResponse/Error/Code") != "MissingAuthenticationToken" {
		t.Errorf("without a signature: %d %v", a.status, a.texts)
	}
}

// AddKeyOf creates a user without permissions, with a key.
func (w *world) AddKeyOf(name string) (id, secret, token string) {
	w.AddUser(Account, name)
	id, secret = w.AddKey(Account, name)
	return id, secret, ""
}

// TestEventually checks the lags: a new key is refused for a while, lists are late, and a deleted
// key works a little longer.
func TestEventually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t,
			Options{KeyLag: 8 * time.Second, ListLag: 4 * time.Second, DeadLag: 6 * time.Second, UsedLag: time.Minute})
		w.AddUser(Account, "bob")
		a := w.call("CreateAccessKey UserName=bob")
		const at = "CreateAccessKeyResponse/CreateAccessKeyResult/AccessKey/"
		id, secret := a.text(at+"AccessKeyId"), a.text(at+"SecretAccessKey")
		bob := w.as(id, secret, "")
		listed := func() int {
			return len(w.call("ListAccessKeys UserName=bob").
				texts["ListAccessKeysResponse/ListAccessKeysResult/AccessKeyMetadata/member"])
		}
		lets := func() bool { return bob.call("GetCallerIdentity").status == http.StatusOK }
		if lets() || listed() != 0 {
			t.Error("a new key works, or is listed, at once")
		}
		time.Sleep(5 * time.Second)
		if lets() || listed() != 1 {
			t.Error("after five seconds: want it listed, and refused")
		}
		time.Sleep(4 * time.Second)
		if !lets() {
			t.Error("after nine seconds it is refused")
		}
		used := func() string {
			return w.call("GetAccessKeyLastUsed AccessKeyId=" +
				id).text("GetAccessKeyLastUsedResponse/GetAccessKeyLastUsedResult/AccessKeyLastUsed/LastUsedDate")
		}
		if used() != "" {
			t.Error("its use is told at once")
		}
		time.Sleep(2 * time.Minute)
		if used() == "" {
			t.Error("its use is not told")
		}
		w.call("UpdateAccessKey UserName=bob Status=Inactive AccessKeyId=" + id)
		if !lets() {
			t.Error("an inactive key is refused at once")
		}
		time.Sleep(7 * time.Second)
		if lets() {
			t.Error("an inactive key works")
		}
		w.call("DeleteAccessKey UserName=bob AccessKeyId=" + id)
		if listed() != 1 {
			t.Error("a deleted key is not listed any more at once")
		}
		time.Sleep(5 * time.Second)
		if listed() != 0 {
			t.Error("a deleted key is listed")
		}
	})
}

// TestSessionsEnd checks that a session works only with its token, and until it expires.
func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, Options{})
		w.AddRole("999999999999", Role{Name: "far", Trusts: []string{Account}, ExternalID: "x1"})
		const role = "AssumeRole RoleSessionName=me DurationSeconds=900 RoleArn=arn:aws:iam::999999999999:role/far"
		if a := w.call(role); a.status != http.StatusForbidden {
			t.Errorf("without its external id: %d", a.status)
		}
		a := w.call(role + " ExternalId=x1")
		const at = "AssumeRoleResponse/AssumeRoleResult/Credentials/"
		s := w.as(a.text(at+"AccessKeyId"), a.text(at+"SecretAccessKey"), a.text(at+"SessionToken"))
		if got := s.call("GetCallerIdentity").text("GetCallerIdentityResponse/GetCallerIdentityResult/Arn"); got !=
			"arn:aws:sts::999999999999:assumed-role/far/me" {
			t.Errorf("it is %q", got)
		}
		if a := w.as(s.id, s.secret, "").call("GetCallerIdentity"); a.status != http.StatusForbidden {
			t.Errorf("without its token: %d", a.status)
		}
		if a := s.call("GetFederationToken Name=me"); a.text("ErrorResponse/Error/Code") != "AccessDenied" {
			t.Errorf("a session gets a federation token: %d", a.status)
		}
		time.Sleep(15*time.Minute + time.Second)
		if a := s.call("GetCallerIdentity"); a.text("ErrorResponse/Error/Code") != "ExpiredToken" {
			t.Errorf("after its end: %d", a.status)
		}
	})
}

// TestPages checks that lists have pages, which continue at their marker.
func TestPages(t *testing.T) {
	w := start(t, Options{PageSize: 2})
	for _, name := range []string{"a", "b", "c"} {
		w.AddUser(Account, name)
	}
	var names []string
	for marker := ""; ; {
		a := w.call("ListUsers" + marker)
		names = append(names, a.texts["ListUsersResponse/ListUsersResult/Users/member/UserName"]...)
		if a.text("ListUsersResponse/ListUsersResult/IsTruncated") == "false" {
			break
		}
		marker = " Marker=" + a.text("ListUsersResponse/ListUsersResult/Marker")
	}
	if want := []string{"a", "b", "c", "keyturn"}; !slices.Equal(names, want) {
		t.Errorf("users %q, want %q", names, want)
	}
}

// TestCommands orders faults over HTTP.
func TestCommands(t *testing.T) {
	w := start(t, Options{})
	do := func(method, path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		return rec
	}
	if rec := do("POST", "/-/fault?action=CreateUser&mode=before&times=1&skip=1"); rec.Code != http.StatusNoContent {
		t.Errorf("ordering a fault: %d", rec.Code)
	}
	if a := w.call("CreateUser UserName=a"); a.status != http.StatusOK {
		t.Errorf("the call that is skipped: %d", a.status)
	}
	if a := w.call("CreateUser UserName=b"); a.status != 500 ||
		a.text("ErrorResponse/Error/Code") != "ServiceFailure" || slices.Contains(w.Users(Account), "b") {
		t.Errorf("the call that is struck: %d %v", a.status, a.texts)
	}
	if a := w.call("CreateUser UserName=b"); a.status != http.StatusOK {
		t.Errorf("the one after: %d", a.status)
	}
	do("POST", "/-/fault?mode=throttle")
	if a := w.call("GetCallerIdentity"); a.text("ErrorResponse/Error/Code") != "Throttling" {
		t.Errorf("throttled: %v", a.texts)
	}
	do("POST", "/-/clear")
	if a := w.call("GetCallerIdentity"); a.status != http.StatusOK {
		t.Errorf("cleared: %d", a.status)
	}
	if rec := do("GET", "/-/state"); !strings.Contains(rec.Body.String(), adminID) ||
		strings.Contains(rec.Body.String(), adminSecret) {
		t.Errorf("the state is %s", rec.Body)
	}
	if rec := do("GET", "/-/nonsense"); rec.Code != http.StatusNotFound {
		t.Errorf("nonsense: %d", rec.Code)
	}
}

// TestPermissions checks that a user may make the calls that its policy allows, on the resources
// that it names, and that GetCallerIdentity needs no permission.
func TestPermissions(t *testing.T) {
	w := start(t, Options{})
	w.AddUser(Account, "vault-u")
	w.AddUser(Account, "other")
	w.AddGroup(Account, "devs")
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest("POST", "/-/permit?user=keyturn", strings.NewReader(`{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": ["iam:GetUser", "iam:CreateUser", "iam:List*"], "Resource": "arn:aws:iam::123456789012:user/vault-*"},
		{"Effect": "Allow", "Action": "iam:AttachUserPolicy", "Resource": ["arn:aws:iam::123456789012:user/vault-*"], "Condition": {"ArnEquals": {"iam:PolicyARN": "arn:aws:iam::aws:policy/Read*"}}},
		{"Effect": "Allow", "Action": "iam:AddUserToGroup", "Resource": "arn:aws:iam::123456789012:group/devs"}]}`)))
	if rec.Code != http.StatusNoContent {
		t.Fatalf("giving the policy: %d %s", rec.Code, rec.Body)
	}
	for call, allowed := range map[string]bool{
		"GetCallerIdentity": true, "GetUser UserName=vault-u": true, "GetUser UserName=other": false,
		"DeleteUser UserName=vault-u": false, "ListUserPolicies UserName=vault-u": true,
		"ListUserPolicies UserName=other": false,
		"CreateUser UserName=vault-new":   true, "CreateUser UserName=new": false,
		"CreateUser UserName=vault-x Path=/svc/":                                       false,
		"CreateUser UserName=vault-tagged Tags.member.1.Key=a Tags.member.1.Value=b":   false,
		"AttachUserPolicy UserName=vault-u PolicyArn=arn:aws:iam::aws:policy/ReadOnly": true,
		"AttachUserPolicy UserName=vault-u PolicyArn=arn:aws:iam::aws:policy/Admin":    false,
		"AddUserToGroup UserName=vault-u GroupName=devs":                               true,
		"RemoveUserFromGroup UserName=vault-u GroupName=devs":                          false,
		"GetFederationToken Name=fed":                                                  false,
		"GetSessionToken":                                                              true,
	} {
		a := w.call(call)
		if denied := a.text("ErrorResponse/Error/Code") == "AccessDenied"; denied == allowed {
			t.Errorf("%s: %d %v, want allowed: %v", call, a.status, a.texts, allowed)
		}
	}
	for _, bad := range []string{"", "{", `{"Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}`,
		`{"Statement": [{"Effect": "Allow", "NotAction": "*"}]}`,
		`{"Statement": [{"Effect": "Allow", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}]}`} {
		if err := w.Permit(Account, "keyturn", bad); err == nil {
			t.Errorf("%q is evaluated", bad)
		}
	}
}
