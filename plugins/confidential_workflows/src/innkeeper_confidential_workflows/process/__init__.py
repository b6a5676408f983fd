"""The LOOP process: the parent of an enclave.

Rules of this package:

1. It moves bytes: requests to the enclave, the enclave's questions to the host, answers back. It holds nothing secret,
   and believes nothing of what it carries; who has to, verifies it.
2. It imports neither what runs guests nor the host part.
3. One process has one enclave. When that is over, so is the process: its next generation has another one.
"""
