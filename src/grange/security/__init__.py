"""Who asks, what they may do, what was done, and what is kept from those who only hold the disk.

Keys and tokens say who asks (`Principal`), roles and policies what they may do, the audit log what was done, encryption
keeps values from who can read the stores and not the keys. Laws SEC-1 to SEC-10: `docs/semantics/security.md`. Nothing
here speaks HTTP, and nothing here is imported by `import grange`.
"""

from grange.security.principals import LOCAL, PERMISSIONS, Permission, Principal, Role
from grange.security.security import Security

__all__ = ["LOCAL", "PERMISSIONS", "Permission", "Principal", "Role", "Security"]
