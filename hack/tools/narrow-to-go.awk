# Restricts a CustomResourceDefinition of controller-gen to values that Go can decode. Otherwise the API server would accept
# a quantity of 1e1.5 or a port of more than 32 bits, and then the operator could not decode any list of the kind. The
# quantity 1e-999999999 takes forever to parse.
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
