# Narrows a CustomResourceDefinition, as controller-gen writes it, to what Go can read. A quantity of 1e1.5 or a port beyond
# 32 bits would pass and then keep the operator from reading any object of the kind, and 1e-999999999 takes forever to parse.
function indent() { match($0, /^ */); return RLENGTH }

/^ *anyOf:$/ { any_of = indent(); has_pattern = 0 }
/^ *pattern:/ && indent() == any_of {
	has_pattern = 1
	sub(/\[eE\]\(\\\+\|-\)\?\(\(\[0-9\]\+\(\\\.\[0-9\]\*\)\?\)\|\(\\\.\[0-9\]\+\)\)/, "[eE](\\+|-)?[0-9]{1,2}")
}
/^ *x-kubernetes-int-or-string: true$/ && indent() == any_of && !has_pattern {
	pad = substr($0, 1, any_of)
	print pad "maximum: 2147483647\n" pad "minimum: -2147483648"
}
{ print }
