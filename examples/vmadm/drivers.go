package main

import (
	"log/slog"

	"github.com/mobulacloud/mobula/zones"
)

// moreDrivers gives the drivers besides the one for OS containers.
func moreDrivers(*server, *slog.Logger) ([]zones.Driver, error) { return nil, nil }
