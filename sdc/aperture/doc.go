// Package aperture is the language of access rules: it parses sentences such as "CAN getobject /demo/stor/* WHEN sourceip = 10.0.0.0/8" and decides whether
// one covers a request. It follows node-aperture.
//
// Call [Parse] once for a rule and [Rule.Evaluate] for each request. A rule is immutable, evaluation allocates little and takes time linear in what it looks
// at: regular expressions are RE2, so those with back references or look-around are refused when the rule is parsed.
//
// # The language
//
//	[principals] CAN actions [resources] [WHEN conditions]
//
// WHEN may be IF or WHERE. Principals, actions and resources are each one identifier, a list joined by commas or AND, or one of *, ALL, EVERYTHING and
// ANYTHING. An identifier is a word, a quoted string, a word with asterisks for any run of characters (\* is one asterisk), or a regular
// expression written /body/flags::regex. Keywords are case-insensitive, all else is not. A condition is name[::type] operator value or name IN
// (value, …), joined by AND, OR, NOT and parentheses.
//
// A rule that leaves a list out does not look at it: who asks and on what is then decided elsewhere. CAN NOT is a rule that never allows; it does not
// take away what another allows.
//
// Where this differs from the original: a word with asterisks must match from end to end (the original looks for it anywhere, and takes only its first
// asterisk for what it is); lists may go without their final AND; a value of the wrong type and one that is missing make the rule not match with
// an error that says so, where the original throws.
//
// Files: lexer.go and parser.go read, rule.go is what they make, eval.go decides, match.go identifiers, types.go the types of conditions,
// regexp.go JavaScript's regular expressions, dates.go its dates, format.go prints.
//
// Stability: experimental.
package aperture
