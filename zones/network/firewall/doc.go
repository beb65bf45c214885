// Package firewall is the language of firewall rules as FWAPI and fwadm define it: parser, normal form, and compiler
// to the ordered matches of one machine.
//
// It is pure: it opens nothing and knows no kernel. [Parse] reads a rule such as
//
//	FROM any TO tag role = www ALLOW tcp (PORT 80 AND PORT 443) PRIORITY 10
//
// and [Rule.String] prints its normal form, the text an API gives back. [Compile] takes a machine, the fleet it may have
// to do with, and the rules in force, and answers a [Policy]: what may come in and what may go out, first match first.
// [Policy.Decide] is the meaning of a policy, one packet at a time; whoever turns a policy into something faster (package
// network does, for nftables) is measured against it.
//
// Never edit a normal form by hand and expect it unchanged: printing a parsed rule is what makes it normal.
//
// The files: rule.go (the nouns and the normal form), lex.go and parse.go (the text), policy.go (compiler and meaning).
//
// Stability: experimental.
package firewall
