package ufds_test

import (
	"context"
	"fmt"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

func Example() {
	ctx := context.Background()
	directory, err := ufds.New(ufds.Config{Store: metastoretest.NewMemory()}) // a program takes metastore/pebble or metastore/postgres
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := directory.Setup(ctx); err != nil {
		fmt.Println(err)
		return
	}
	demo, err := directory.CreateAccount(ctx, sdc.Account{Login: "demo", ApprovedForProvisioning: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := directory.CreateUser(ctx, sdc.User{Account: demo.UUID, Login: "bob"}); err != nil {
		fmt.Println(err)
		return
	}
	_, err = directory.CreateUser(ctx, sdc.User{Account: demo.UUID, Login: "Bob", Email: "nobody"})
	fmt.Println(err)
	fmt.Println(directory.DeleteAccount(ctx, demo.UUID))
	for u, err := range directory.Users(ctx, demo.UUID) {
		fmt.Println(u.Login, err)
	}
	// Output:
	// InvalidArgument: email "nobody" is invalid
	// InUse: account has 1 users
	// bob <nil>
}
