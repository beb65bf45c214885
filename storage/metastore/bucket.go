package metastore

// A Bucket is a schema: which top-level fields of its records are indexed, and what else the store does for it.
type Bucket struct {
	// Name is 1 to 63 characters of a-z, 0-9 and '_', beginning with a letter.
	Name string `json:"name"`

	// Version orders schemas: Define with a higher version replaces the schema.
	Version int `json:"version"`

	// Indexes by top-level JSON field, one to a field, 64 at most. A field's name is 1 to 63 characters of a-z, A-Z, 0-9, '_' and '-'.
	// A record without the field, or with null, is simply not in that index; a value of another type refuses the put with [ErrInvalid].
	Indexes []Index `json:"indexes,omitempty"`

	// Watched keeps a log of changes for [Store.Watch].
	Watched bool `json:"watched,omitempty"`
}

// An Index makes a field usable in filters and orders.
type Index struct {
	Field string    `json:"field"`
	Type  IndexType `json:"type"`

	// Array says that the field holds a JSON array of Type; a record is found by any of its elements.
	Array bool `json:"array,omitempty"`

	// Unique refuses a second record with the same value in the bucket ([ErrNotUnique]). On a sharded store it holds within a shard only, so
	// keep buckets with unique fields in one partition.
	Unique bool `json:"unique,omitempty"`

	// PerPartition orders the index by partition first: it answers only queries that name a partition, and on a sharded
	// store each of them asks one shard.
	PerPartition bool `json:"per_partition,omitempty"`
}

// An IndexType says how values of a field compare.
type IndexType string

// The types of indexed fields. All but Number and Boolean are JSON strings.
const (
	String  IndexType = "string"  // bytewise
	Number  IndexType = "number"  // a float64
	Boolean IndexType = "boolean" // false before true
	Date    IndexType = "date"    // RFC 3339, by instant
	UUID    IndexType = "uuid"    // canonical lower case
	IP      IndexType = "ip"      // IPv4 before IPv6, numerically
	Subnet  IndexType = "subnet"  // CIDR; by address, then length
	MAC     IndexType = "mac"     // canonical lower-case colon form
)
