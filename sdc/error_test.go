package sdc

import (
	"errors"
	"fmt"
	"testing"

	"github.com/aws/smithy-go"
)

func TestError(t *testing.T) {
	cause := errors.New("disk on fire")
	err := fmt.Errorf("put: %w", &Error{Code: "NotEnoughSpace", Message: "not enough free space", Status: 507, Err: cause})
	if !errors.Is(err, &Error{Code: "NotEnoughSpace"}) || errors.Is(err, &Error{Code: "Other"}) || !errors.Is(err, cause) {
		t.Errorf("%v is not what it is", err)
	}
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "NotEnoughSpace" || e.ErrorMessage() != "not enough free space" || e.ErrorFault() != smithy.FaultServer {
		t.Errorf("%v as an API error is %v", err, e)
	}
	if got := AsError(err); got.Status != 507 {
		t.Errorf("AsError(%v) = %+v", err, got)
	}
	if got := AsError(cause); got.Code != "InternalError" || got.Status != 500 || got.Message == cause.Error() || !errors.Is(got, cause) {
		t.Errorf("AsError(%v) = %+v", cause, got)
	}
	for status, want := range map[int]smithy.ErrorFault{404: smithy.FaultClient, 500: smithy.FaultServer, 0: smithy.FaultUnknown} {
		if got := (&Error{Status: status}).ErrorFault(); got != want {
			t.Errorf("fault of %d is %v", status, got)
		}
	}
}
