package client

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/keyturn/keyturn/internal/fault"
)

// each removes all of a list. The list is read in full first: removing moves its pages. What may not be removed keeps nothing else
// from being removed.
func each[T any](ctx context.Context, doing string, list func(ctx context.Context, marker *string) ([]T, *string, error), remove func(ctx context.Context, one T) error) error {
	var all []T
	n := 0
	for marker, more := (*string)(nil), true; more; more = marker != nil {
		if n++; n > mostPages {
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

// mostPages is how many pages of a list are read: AWS's quotas of what a user or group has fit on one.
const mostPages = 20

// endless is the error for a list with too many pages.
func endless(doing string) error {
	return fault.New("aws.list", fault.TooLarge, "%s: the list has more than %d pages; check that iam_endpoint is AWS's", doing, mostPages)
}

// pages reads a list of the library's page by page.
func pages[P any](ctx context.Context, doing string, list interface {
	HasMorePages() bool
	NextPage(ctx context.Context, o ...func(*iam.Options)) (P, error)
}, take func(P)) error {
	for n := 0; list.HasMorePages(); n++ {
		if n == mostPages {
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
