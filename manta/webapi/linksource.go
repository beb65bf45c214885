package webapi

import (
	"net/http"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/sdc"
)

// A linkSource is the object that a snaplink is to be made from.
type linkSource struct {
	location string // as the header had it
	path     manta.Path
	owner    *sdc.Account
	key      manta.Key
}

func (l *linkSource) missing() error {
	return manta.Errorf(http.StatusNotFound, manta.CodeSourceObjectNotFound, "%s was not found", l.location)
}
