package ufds

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/aperture"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// The buckets. All records are in partition "", so that any of them can change in one batch. Their values are the nouns of package sdc
// as JSON, with an alias beside them that makes names unique; a Key's record name is [KeyName], all others are named by their uuid.
const (
	AccountsBucket = "ufds_accounts"
	UsersBucket    = "ufds_users"
	KeysBucket     = "ufds_keys"
	RolesBucket    = "ufds_roles"
	PoliciesBucket = "ufds_policies"
)

// Buckets returns the schemas, all of them watched.
func Buckets() []metastore.Bucket {
	str := func(field string) metastore.Index { return metastore.Index{Field: field, Type: metastore.String} }
	id := func(field string) metastore.Index { return metastore.Index{Field: field, Type: metastore.UUID} }
	ids := func(field string) metastore.Index {
		return metastore.Index{Field: field, Type: metastore.UUID, Array: true}
	}
	unique := metastore.Index{Field: aliasField, Type: metastore.String, Unique: true}
	email := metastore.Index{Field: "email_alias", Type: metastore.String, Unique: true}
	return []metastore.Bucket{
		{Name: AccountsBucket, Version: 1, Watched: true, Indexes: []metastore.Index{
			unique, email, {Field: "groups", Type: metastore.String, Array: true}}},
		{Name: UsersBucket, Version: 1, Watched: true, Indexes: []metastore.Index{unique, email, id("account")}},
		{Name: KeysBucket, Version: 1, Watched: true, Indexes: []metastore.Index{unique, id("owner"), str("fingerprint")}},
		{Name: RolesBucket, Version: 1, Watched: true, Indexes: []metastore.Index{unique, id("account"), ids("members"), ids("policies")}},
		{Name: PoliciesBucket, Version: 1, Watched: true, Indexes: []metastore.Index{unique, id("account")}},
		{Name: MarksBucket, Version: 1, Watched: true},
	}
}

const aliasField = "alias"

// KeyName returns the name of a key's record.
func KeyName(owner, fingerprint string) string { return owner + "/" + fingerprint }

// Types says of which type the conditions in rules are: those of the object store and those of CloudAPI. Rules may use no others unless
// they name the type, as in tag_role::string.
var Types = aperture.Types{
	"activeRoles": aperture.Array, "date": aperture.Date, "datacenter": aperture.String, "day": aperture.Day, "fromjob": aperture.Boolean,
	"method": aperture.String, "overwrite": aperture.Boolean, "owner": aperture.String, "region": aperture.String, "sourceip": aperture.IP,
	"time": aperture.Time, "user-agent": aperture.String,
}

// A noun is what the directory keeps.
type noun interface {
	sdc.Account | sdc.User | sdc.Key | sdc.Role | sdc.Policy
}

// Decode reads the value of a record.
func Decode[T noun](r metastore.Record) (T, error) {
	var v T
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return v, fmt.Errorf("decode record %q of %s: %w", r.Key.Name, r.Bucket, err)
	}
	return v, nil
}

// stored is a noun with the fields that only indexes use.
type stored[T noun] struct {
	alias, email string
	value        T
}

func (s stored[T]) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(s.value)
	if err != nil {
		return nil, err
	}
	extra := map[string]string{aliasField: s.alias}
	if s.email != "" {
		extra["email_alias"] = s.email
	}
	e, err := json.Marshal(extra)
	if err != nil {
		return nil, err
	}
	b = append(b[:len(b)-1], ',')
	return append(b, e[1:]...), nil
}

// fold makes names that differ in case only the same.
func fold(parts ...string) string { return strings.ToLower(strings.Join(parts, "/")) }

func accountRecord(a sdc.Account) stored[sdc.Account] {
	return stored[sdc.Account]{alias: fold(a.Login), email: fold(a.Email), value: a}
}

func userRecord(u sdc.User) stored[sdc.User] {
	s := stored[sdc.User]{alias: fold(u.Account, u.Login), value: u}
	if u.Email != "" {
		s.email = fold(u.Account, u.Email)
	}
	return s
}

func keyRecord(k sdc.Key) stored[sdc.Key] {
	return stored[sdc.Key]{alias: k.Owner + "/" + k.Name, value: k}
}

func roleRecord(r sdc.Role) stored[sdc.Role] {
	return stored[sdc.Role]{alias: r.Account + "/" + r.Name, value: r}
}

func policyRecord(p sdc.Policy) stored[sdc.Policy] {
	return stored[sdc.Policy]{alias: p.Account + "/" + p.Name, value: p}
}
