package client

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/keyturn/keyturn/internal/fault"
)

// each removes every item of a list. It reads the whole list first, because removing items shifts
// the pages. An item that may not be removed does not stop the others.
func each[T any](ctx context.Context, doing string,
	list func(ctx context.Context, marker *string) ([]T, *string, error),
	remove func(ctx context.Context, one T) error) error {
	var all []T
	n := 0
	for marker, more := (*string)(nil), true; more; more = marker != nil {
		if n++; n > maxPages {
			return endless(doing)
		}
		some, next, err := list(ctx, marker)
		if err != nil {
			return explain(doing, err)
		}
		all, marker = append(all, some...), next
	}
	var denied error
	for _, one := range all {
		switch err := absent(explain(doing, remove(ctx, one))); {
		case CodeOf(err) == "AccessDenied":
			denied = err
		case err != nil:
			return err
		}
	}
	return denied
}

// maxPages limits the pages of a list. AWS's quotas for a user or group fit on one.
const maxPages = 20

// endless returns the error for a list with too many pages.
func endless(doing string) error {
	return fault.New("aws.list", fault.TooLarge,
		"%s: the list has more than %d pages; check that iam_endpoint is AWS's", doing, maxPages)
}

// pages reads a list of the library page by page.
func pages[P any](ctx context.Context, doing string, list interface {
	HasMorePages() bool
	NextPage(ctx context.Context, o ...func(*iam.Options)) (P, error)
}, take func(P)) error {
	for n := 0; list.HasMorePages(); n++ {
		if n == maxPages {
			return endless(doing)
		}
		p, err := list.NextPage(ctx)
		if err != nil {
			return explain(doing, err)
		}
		take(p)
	}
	return nil
}
