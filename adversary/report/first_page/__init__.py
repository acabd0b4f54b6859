"""The first page of a report: five questions of a data-protection officer, and what to do.

``situation`` gathers what a run says; ``answers`` puts it into sentences, ``actions`` into next
steps by rule, ``assessment`` into a paragraph for an impact assessment. None of them reads
anything but what ``situation`` holds, and none knows HTML.

To add a next step: an entry in ``ACTIONS`` of ``actions``.
"""
